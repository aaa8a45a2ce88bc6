"""Secure sums: who receives vectors learns their sum, and none of them."""
