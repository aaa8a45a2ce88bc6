"""Every law of `p2pfrl bench laws` holds: its figures are printed beside what theory says."""

from pathlib import Path

import pytest

from p2pfrl.laws import laws, measure

PINNED = {
    "apfl": "learning/test_personal_models.py::test_apfl_follows_its_equations",
    "chebyshev_rate": "consensus/test_mixing_accelerated.py"
    "::test_a_run_without_training_is_the_chebyshev_polynomial_of_its_matrix",
    "coordinator_restart": "laws/test_law_coordinator_restart.py"
    "::test_the_model_is_the_mean_of_all_who_were_asked_though_the_coordinator_crashed",
    "critic_consensus": "learning/test_learners_td.py::test_neighbors_evaluate_a_policy_together",
    "client_drift": "laws/test_law_fedavg.py::test_fedavg_ends_at_its_closed_form",
    "control_variates": "learning/test_corrections_drift.py::test_scaffold_is_the_papers_algorithm",
    "delay": "laws/test_law_delay.py::test_a_delay_of_tau_is_the_delayed_recursion",
    "determinism": "laws/test_law_determinism.py"
    "::test_digests_agree_across_processes_and_hash_seeds",
    "ditto": "learning/test_personal_models.py"
    "::test_ditto_ends_where_its_closed_form_says_in_gossip_too",
    "extra": "consensus/test_mixing_tracking.py::test_a_run_is_the_method_of_the_paper",
    "gradient_tracking": "consensus/test_mixing_tracking.py::test_a_run_is_the_method_of_the_paper",
    "laplacian_step": "laws/test_law_spectral.py"
    "::test_laplacian_step_decays_below_two_over_lambda_max_and_grows_above",
    "loss_drift": "laws/test_law_loss.py::test_one_sided_drops_move_the_mean_as_a_monte_carlo_says",
    "noise_floor": "laws/test_law_noise_floor.py::test_curvature_lowers_the_noise_floor",
    "push_sum_loss": "consensus/test_mixing_push_sum.py"
    "::test_mass_is_kept_and_the_mean_found_whatever_is_lost_repeated_or_overtaken",
    "scafflsa_bias": "laws/test_laws.py::test_the_law_holds",  # fedlsa_bias is it without samples
    "spectral": "laws/test_law_spectral.py::test_disagreement_shrinks_by_the_second_eigenvalue",
    "ucbvi": "learning/test_learners_ucbvi.py"
    "::test_a_run_synchronizes_only_when_there_is_news_and_ends_near_the_best_policy",
}
"""Laws whose statement the default suite tests elsewhere, on smaller instances: they are slow."""

LAWS = [
    pytest.param(law, id=law.name, marks=[pytest.mark.slow] * (law.is_slow or law.name in PINNED))
    for law in laws().values()
]


@pytest.mark.parametrize("law", LAWS)
def test_the_law_holds(law):
    figures = list(measure(law))
    assert figures, law.name
    for figure in figures:
        print(f"{law.name}: {figure.what}: {figure.measured:.6g} (expected {figure.expected})")
    assert not [figure for figure in figures if not figure.holds]


def test_every_law_says_what_it_states_and_where_it_comes_from():
    for law in laws().values():
        assert law.title
        assert law.source == "computed" or any(character.isdigit() for character in law.source), (
            law.name
        )


@pytest.mark.parametrize(("law", "test"), PINNED.items())
def test_a_law_that_is_slow_here_is_tested_elsewhere(law: str, test: str) -> None:
    assert law in laws()
    file, _, name = test.partition("::")
    text = (Path(__file__).parents[1] / file).read_text(encoding="utf-8")
    decorators, found, _ = text.partition(f"\ndef {name}(")
    assert found
    assert "@pytest.mark.slow\n" not in decorators[decorators.rindex("\n\n\n") :]
