/* Prints a digest of what the engine computes, for processors that cannot run the tests themselves. */
#include <stdio.h>

#include "engine.c"

static uint64_t digest = 1469598103934665603u; /* FNV-1a */
static void add(const void *bytes, long n) {
    for (long i = 0; i < n; i++) digest = (digest ^ ((const unsigned char *)bytes)[i]) * 1099511628211u;
}
static float pattern(uint32_t i) { return ((float)(i * 2654435761u % (1u << 20)) - 524288.0f) / 524288.0f; }
static float *numbers(long n, int first) {
    float *found = malloc(4 * n);
    for (long i = 0; i < n; i++) found[i] = pattern(i + first);
    return found;
}

static void learn_and_act(int gaussian) {
    net_t net = {.inputs = 4, .relu = gaussian, .has_critic = 1, .chains = 2};
    const int sizes[] = {4, 19, 19, 3}, width = gaussian ? 3 : 1, size = 70;
    int end = 0;
    for (int l = 0; l < 3; l++) {
        net.chain[0].layer[l] = (layer_t){end, end + UP(sizes[l] * sizes[l + 1]), sizes[l], sizes[l + 1]};
        end = net.chain[0].layer[l].bias + UP(sizes[l + 1]);
    }
    net.chain[0].layers = 3;
    net.chain[1] = (chain_t){1, {{end, end + 16, 4, 1}}};
    net.stride = end + 48;
    const int32_t choices[] = {3};
    const policy_t policy = {gaussian, 3, width, 0, end + 32, choices};
    const loss_t loss = {1, 0.2f, 0.5f, 0.01f};
    const optimizer_t adam = {ADAM, 1e-5f, 0.9f, 0.999f, 0.5f, 0.9, 0.999};
    const long features = 4 + width + 3;
    float *rows = numbers(2 * net.stride, 0), *samples = numbers(2 * size * features, 99);
    float *first = calloc(2 * net.stride, 4), *second = calloc(2 * net.stride, 4);
    float counts[2] = {0}, rates[] = {0.01f, 0.02f};
    const uint64_t orders[] = {5, 6, 7, 8};
    double losses[2];
    for (int i = 0; !gaussian && i < 2 * size; i++) samples[i * features + 4] = i % 3;
    engine_learn(&net, &policy, &loss, &adam, 2, rows, first, second, counts, rates, samples, size,
                 0, orders, 7, 5, 3, 1, losses);
    add(rows, 8L * net.stride);
    add(second, 8L * net.stride);
    add(losses, sizeof losses);
    if (gaussian) return;
    double physics[] = {9.8, 1, 0.1, 0.5, 10, 9.8, 1, 0.1, 0.5, 10}, state[24], returns[6] = {0}, ended[120];
    int64_t elapsed[6] = {0}, since[120];
    int32_t count[2], taken[2];
    const uint64_t keys[] = {1, 2, 3, 4};
    float value[120] = {0}, ahead[120] = {0}, *acted = numbers(120 * features, 0);
    uint8_t finished[120];
    float *kept = malloc(8 * layers_of(&net, 60));
    for (int i = 0; i < 24; i++) state[i] = pattern(i) * 0.1;
    engine_cartpole(&net, &policy, 2, rows, physics, state, elapsed, returns, keys, 3, 20, 0, 17, orders,
                    7, 0, acted, value, ahead, finished, since, ended, count, taken, kept);
    engine_advantages(2, 20, 3, value, value, ahead, finished, 0.05f, 0.99f, 0.94f, features, acted);
    add(acted, 480 * features);
    engine_learn(&net, &policy, &loss, &adam, 2, rows, first, second, counts, rates, acted, 60,
                 kept, 0, 0, 2, 1, 1, losses);
    add(rows, 8L * net.stride);
    add(losses, sizeof losses);
    add(state, sizeof state);
}

static void q_learning(int doubled) {
    net_t net = {.stride = 512, .inputs = 5, .relu = 1, .chains = 1};
    net.chain[0] = (chain_t){2, {{0, 96, 5, 18}, {128, 192, 18, 3}}};
    const td_t td = {doubled, doubled, 0.3f, 0.99f};
    const optimizer_t adam = {ADAM, 1e-5f, 0.9f, 0.999f, 0.5f, 0.9, 0.999};
    enum { size = 37, features = 2 * 5 + 3 };
    float *rows = numbers(1024, 0), *ahead = numbers(1024, 7), *transitions = numbers(2 * size * features, 9);
    float *first = calloc(1024, 4), *second = calloc(1024, 4), *gradient = calloc(1024, 4);
    float counts[2] = {0}, rates[] = {0.01f, 0.02f}, errors[2 * size];
    for (int i = 0; i < 2 * size; i++) {
        float *own = transitions + i * features;
        own[10] = i % 3;
        own[12] = i % 7 == 0;
        for (int k = 0; k < 3; k++) own[7 + k] = (i + k) % 3 != 0; /* the mask of the successor */
    }
    engine_td(&net, &td, 2, rows, ahead, transitions, size, errors, gradient, 0, 0, 0, 0, 0);
    add(gradient, 4096);
    engine_td(&net, &td, 2, rows, ahead, transitions, size, errors, 0, &adam, first, second, counts, rates);
    add(rows, 4096);
    add(errors, sizeof errors);
}

int main(void) {
    learn_and_act(0);
    learn_and_act(1);
    q_learning(0);
    q_learning(1);
    for (int kind = 0; kind < 3; kind++) {
        float x[32], y[32];
        for (int i = 0; i < 32; i++) x[i] = kind == 1 ? i + 0.3f : pattern(i + kind) * 50;
        engine_function(kind, 32, x, y);
        add(y, sizeof y);
    }
    double vectors[5 * 32];
    for (int i = 0; i < 5 * 32; i++) vectors[i] = pattern(7 * i);
    engine_orthogonal(5, 32, vectors);
    add(vectors, sizeof vectors);
    printf("%016llx\n", (unsigned long long)digest);
}
