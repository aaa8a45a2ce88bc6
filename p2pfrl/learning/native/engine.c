/* The native engine: small networks act and take minibatch steps, in float32, one agent after the other.

   Every result has the same bits on every machine and with every compiler, and an agent's result
   does not depend on the other agents of a call:
   - Each sum has one order. A product adds along its inner axis, from the first to the last. Sums over
     samples or parameters run in 16 lanes (number i is in lane i % 16), and the lanes are added as a
     fixed tree. The width of a register, W, changes how many lanes one instruction has, and no order.
   - A multiplication and an addition are one operation, with one rounding, where `madd` stands, and
     nowhere else: the file is compiled with -ffp-contract=off.
   - exp, log, tanh, sin and cos are written here. Of the C library there is memory alone.

   Samples are rows: x (B, inputs), hidden layers (B, outputs). The rows of an array are UP(n) numbers
   apart, that is n rounded up to 16, and the numbers behind the n are 0. A vector register holds
   W neighbors of a row. Parameters of a layer are (outputs, inputs) in an agent's row; the forward
   pass multiplies by the transposed weights, which `prepare` makes. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define W 16
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define W 8
#elif defined(__aarch64__)
#include <arm_neon.h>
#define W 4
#else
#error "the native engine needs AVX2 with FMA, or a 64-bit ARM processor"
#endif

#define LANES 16
#define MAX_LAYERS 8
#define UP(n) (((n) + 15) & ~15)
#define UP8(n) (((n) + 7) & ~7)
#define INLINE static inline __attribute__((always_inline))

typedef float v __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef v v_any __attribute__((aligned(4), may_alias)); /* in memory, at any address */
typedef float v4 __attribute__((vector_size(16)));
typedef v4 v4_any __attribute__((aligned(4), may_alias));

#define SELECT(mask, a, b) ((v)(((vi)(a) & (mask)) | ((vi)(b) & ~(mask))))

INLINE v load(const float *p) { return *(const v_any *)p; }
INLINE void store(float *p, v x) { *(v_any *)p = x; }
INLINE v all(float x) { return x - (v){0}; }

/* a b + c with one rounding */
INLINE v madd(v a, v b, v c) {
#if W == 16
    return (v)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif W == 8
    return (v)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return (v)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#endif
}

/* Both keep an x that is not a number, and -0 where the other is 0: a minimum of x86 is its second number
   unless the first is less. */
INLINE v at_most(v x, v most) {
#if W == 16
    return (v)_mm512_min_ps((__m512)most, (__m512)x);
#elif W == 8
    return (v)_mm256_min_ps((__m256)most, (__m256)x);
#else
    return SELECT(x > most, most, x);
#endif
}
INLINE v at_least(v x, v least) {
#if W == 16
    return (v)_mm512_max_ps((__m512)least, (__m512)x);
#elif W == 8
    return (v)_mm256_max_ps((__m256)least, (__m256)x);
#else
    return SELECT(x < least, least, x);
#endif
}

INLINE v root(v x) {
#if W == 16
    return (v)_mm512_sqrt_ps((__m512)x);
#elif W == 8
    return (v)_mm256_sqrt_ps((__m256)x);
#else
    return (v)vsqrtq_f32((float32x4_t)x);
#endif
}

static const float LANE[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* The sum of 16 lanes, as a tree. */
static float sum_lanes(const float *lane) {
    float x[LANES];
    memcpy(x, lane, sizeof x);
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    return x[0];
}

/* exp, to 1e-7 of its value; 0 below -87, and at most exp(88). Cody, Waite, Software manual for the
   elementary functions, 1980: n ln 2 is subtracted in two parts; polynomial of the Cephes library. */
INLINE v vexp(v x) {
    v inside = at_most(at_least(x, all(-87.0f)), all(88.0f));
    v t = madd(inside, all(1.44269504f), all(12582912.0f)), n = t - 12582912.0f;
    v r = madd(n, all(-0.693359375f), inside);
    r = madd(n, all(2.12194440e-4f), r);
    v p = madd(r, all(1.9875691500e-4f), all(1.3981999507e-3f));
    p = madd(p, r, all(8.3334519073e-3f));
    p = madd(p, r, all(4.1665795894e-2f));
    p = madd(p, r, all(1.6666665459e-1f));
    p = madd(p, r, all(5.0000001201e-1f));
    p = madd(p * r, r, r) + 1.0f;
    v y = (v)((vu)p + ((vu)t << 23));
    y = SELECT(x < -87.0f, all(0), y);
    return SELECT(x != x, x, y);
}

/* log of positive numbers that are normal, to 1e-7; polynomial of the Cephes library. */
INLINE v vlog(v x) {
    vu bits = (vu)x;
    v e = __builtin_convertvector((vi)(bits >> 23) - 126, v);
    v m = (v)((bits & 0x007fffff) | 0x3f000000);
    vi low = m < 0.707106781f;
    e -= SELECT(low, all(1), all(0));
    m = m + SELECT(low, m, all(0)) - 1.0f;
    v z = m * m, p = madd(m, all(7.0376836292e-2f), all(-1.1514610310e-1f));
    p = madd(p, m, all(1.1676998740e-1f));
    p = madd(p, m, all(-1.2420140846e-1f));
    p = madd(p, m, all(1.4249322787e-1f));
    p = madd(p, m, all(-1.6668057665e-1f));
    p = madd(p, m, all(2.0000714765e-1f));
    p = madd(p, m, all(-2.4999993993e-1f));
    p = madd(p, m, all(3.3333331174e-1f));
    v y = p * m * z;
    y = madd(e, all(-2.12194440e-4f), y);
    y = madd(z, all(-0.5f), y) + m;
    y = madd(e, all(0.693359375f), y);
    return SELECT(x != x, x, y);
}

/* tanh, to 3e-7: a quotient of polynomials, of the Eigen library. */
INLINE v vtanh(v x) {
    x = at_most(at_least(x, all(-7.9053111f)), all(7.9053111f));
    v s = x * x, p = madd(s, all(-2.76076847742355e-16f), all(2.00018790482477e-13f));
    p = madd(p, s, all(-8.60467152213735e-11f));
    p = madd(p, s, all(5.12229709037114e-08f));
    p = madd(p, s, all(1.48572235717979e-05f));
    p = madd(p, s, all(6.37261928875436e-04f));
    p = madd(p, s, all(4.89352455891786e-03f));
    v q = madd(s, all(1.19825839466702e-06f), all(1.18534705686654e-04f));
    q = madd(q, s, all(2.26843463243900e-03f));
    q = madd(q, s, all(4.89352518554385e-03f));
    return x * p / q;
}

/* C (M, N) = A (M, K) B (K, N) + bias (N), bias 0 where the pointer is. N is a multiple of 8; A[i, k]
   is at i * am + k * ak. Each number of C adds along K: the shape of a tile changes no order. A tile
   has MR rows of NV vectors, whose type is V. */
#define TILE(V, MR, NV)                                                                           \
    INLINE void V##_tile_##MR##_##NV(int K, const float *A, long am, long ak, const float *B,     \
                                     long ldb, float *C, long ldc, const float *bias) {           \
        enum { LONG = sizeof(V) / 4 };                                                            \
        V c[MR][NV];                                                                              \
        for (int j = 0; j < NV; j++) {                                                            \
            V first = {0};                                                                        \
            if (bias) first = *(const V##_any *)(bias + LONG * j);                                \
            for (int i = 0; i < MR; i++) c[i][j] = first;                                         \
        }                                                                                         \
        for (int k = 0; k < K; k++) {                                                             \
            V b[NV];                                                                              \
            for (int j = 0; j < NV; j++) b[j] = *(const V##_any *)(B + k * ldb + LONG * j);       \
            for (int i = 0; i < MR; i++) {                                                        \
                V a = A[i * am + k * ak] - (V){0};                                                \
                for (int j = 0; j < NV; j++) c[i][j] = V##_madd(a, b[j], c[i][j]);                 \
            }                                                                                     \
        }                                                                                         \
        for (int i = 0; i < MR; i++)                                                              \
            for (int j = 0; j < NV; j++) *(V##_any *)(C + i * ldc + LONG * j) = c[i][j];          \
    }
#define ROWS(V, MR, NV)                                                                           \
    for (; M - m >= MR; m += MR)                                                                  \
        V##_tile_##MR##_##NV(K, A + m * am, am, ak, B + n, ldb, C + m * ldc + n, ldc,             \
                             bias ? bias + n : 0);
#define COLUMNS(V, MOST, NV)                                                                      \
    for (; n + NV * (int)sizeof(V) / 4 <= N; n += NV * (int)sizeof(V) / 4) {                      \
        int m = 0;                                                                                \
        ROWS(V, MOST, NV) ROWS(V, 4, NV) ROWS(V, 2, NV) ROWS(V, 1, NV)                            \
    }
#define TILES(V, MOST, NV) TILE(V, MOST, NV) TILE(V, 4, NV) TILE(V, 2, NV) TILE(V, 1, NV)
#define v_madd madd
#if W == 16 /* 32 registers */
typedef float v8 __attribute__((vector_size(32)));
typedef v8 v8_any __attribute__((aligned(4), may_alias));
INLINE v8 v8_madd(v8 a, v8 b, v8 c) { return (v8)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
TILES(v, 6, 4) TILES(v, 12, 1) TILES(v8, 16, 1)
#define ALL_COLUMNS COLUMNS(v, 6, 4) COLUMNS(v, 12, 1) COLUMNS(v8, 16, 1)
#elif W == 8 /* 16 registers */
TILES(v, 6, 2) TILES(v, 12, 1)
#define ALL_COLUMNS COLUMNS(v, 6, 2) COLUMNS(v, 12, 1)
#else /* 32 registers */
TILES(v, 6, 4) TILES(v, 12, 2)
#define ALL_COLUMNS COLUMNS(v, 6, 4) COLUMNS(v, 12, 2)
#endif

static void multiply(int M, int N, int K, const float *A, long am, long ak, const float *B,
                     long ldb, float *C, long ldc, const float *bias) {
    int n = 0;
    ALL_COLUMNS
}

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#ifndef SHUFFLE
typedef int32_t vi4 __attribute__((vector_size(16)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vi4){__VA_ARGS__})
#endif

/* t (C, ldt) = a (R, C) transposed; the columns behind R are left. */
static void transpose(int R, int C, const float *a, long lda, float *t, long ldt) {
    int r = 0;
    for (; r + 4 <= R; r += 4) {
        int c = 0;
        for (; c + 4 <= C; c += 4) {
            const float *from = a + r * lda + c;
            float *to = t + c * ldt + r;
            v4 x0 = *(const v4_any *)from, x1 = *(const v4_any *)(from + lda);
            v4 x2 = *(const v4_any *)(from + 2 * lda), x3 = *(const v4_any *)(from + 3 * lda);
            v4 y0 = SHUFFLE(x0, x1, 0, 4, 1, 5), y1 = SHUFFLE(x0, x1, 2, 6, 3, 7);
            v4 y2 = SHUFFLE(x2, x3, 0, 4, 1, 5), y3 = SHUFFLE(x2, x3, 2, 6, 3, 7);
            *(v4_any *)to = SHUFFLE(y0, y2, 0, 1, 4, 5);
            *(v4_any *)(to + ldt) = SHUFFLE(y0, y2, 2, 3, 6, 7);
            *(v4_any *)(to + 2 * ldt) = SHUFFLE(y1, y3, 0, 1, 4, 5);
            *(v4_any *)(to + 3 * ldt) = SHUFFLE(y1, y3, 2, 3, 6, 7);
        }
        for (; c < C; c++)
            for (int i = r; i < r + 4; i++) t[c * ldt + i] = a[i * lda + c];
    }
    for (; r < R; r++)
        for (int c = 0; c < C; c++) t[c * ldt + r] = a[r * lda + c];
}

/* ------------------------------------------------------------------ what Python says (library.py) */

typedef struct {
    int32_t weight, bias, inputs, outputs; /* places within a row, sizes */
} layer_t;
typedef struct {
    int32_t layers; /* the last one is linear */
    layer_t layer[MAX_LAYERS];
} chain_t;
typedef struct {
    int32_t stride, inputs, relu, has_critic, chains; /* the last output is a value */
    chain_t chain[2];                                 /* actor (and critic), or both; critic */
} net_t;
typedef struct {
    int32_t gaussian, outputs, width, masked, log_std; /* log_std: its place within a row */
    const int32_t *choices;                            /* (width,) actions of each choice */
} policy_t;
typedef struct {
    int32_t clipped; /* PPO's ratio, or the plain log-probability */
    float clip, value, entropy;
} loss_t;
typedef struct {
    int32_t kind; /* KEEP ... */
    float eps, decay, squares_decay, max_norm; /* Adam's b1 and b2; RMSprop's a is squares_decay */
    double b1, b2;
} optimizer_t;
enum { KEEP, SGD, RMSPROP, ADAM };

/* Memory of one call. It is laid out twice: first at address 0 to know its size, which is why addresses
   are added as numbers. */
typedef struct {
    char *at;
} arena_t;

static float *take(arena_t *arena, long numbers) {
    char *found = arena->at;
    arena->at = (char *)((uintptr_t)found + 4 * UP(numbers));
    return (float *)found;
}

typedef struct {
    float *forward[2][MAX_LAYERS];  /* (inputs, UP(outputs)) transposed weights */
    float *bias[2][MAX_LAYERS];     /* (UP(outputs),) */
    float *backward[2][MAX_LAYERS]; /* (outputs, UP(inputs)), where rows have no such distance */
} weights_t;

typedef struct {
    weights_t weights;
    float *hidden[2][MAX_LAYERS]; /* (B, UP(outputs)); the last one is the output of the chain */
    float *delta[2];              /* (B, UP(outputs)) gradient by the outputs */
    float *under[2];              /* two of (B, most) */
    float *product;               /* (most, most) */
    float *sums;                  /* (most,) */
    float *x;                     /* (B, UP(inputs)) */
    float *action;                /* (width, UP(B)) */
    float *log_prob, *advantage, *target; /* (UP(B),) */
    float *head, *value;          /* (outputs, UP(B)), (UP(B),) */
    float *weight;                /* (outputs, W) unnormalized probabilities; 4 more per choice */
    float *lanes;                 /* (outputs, 16) */
    float *gradient;              /* (stride,) */
} scratch_t;

/* What is left out is 0. backward: 1 for gradients by parameters, 2 by inputs, too. */
static void place_weights(arena_t *arena, const net_t *net, weights_t *w, int forward, int backward) {
    for (int c = 0; c < net->chains; c++)
        for (int l = 0; l < net->chain[c].layers; l++) {
            const layer_t *y = &net->chain[c].layer[l];
            w->forward[c][l] = w->backward[c][l] = 0;
            if (forward) {
                w->forward[c][l] = take(arena, (long)y->inputs * UP(y->outputs));
                w->bias[c][l] = take(arena, UP(y->outputs));
            }
            if (backward && l + backward > 1 && y->inputs % 16)
                w->backward[c][l] = take(arena, (long)y->outputs * UP(y->inputs));
        }
}

static void place(arena_t *arena, const net_t *net, const policy_t *policy, int B, scratch_t *s) {
    long most = UP(net->inputs);
    place_weights(arena, net, &s->weights, 1, 1);
    for (int c = 0; c < net->chains; c++)
        for (int l = 0; l < net->chain[c].layers; l++) {
            const layer_t *y = &net->chain[c].layer[l];
            s->hidden[c][l] = take(arena, (long)B * UP(y->outputs));
            if (l == net->chain[c].layers - 1) s->delta[c] = take(arena, (long)B * UP(y->outputs));
            if (UP(y->outputs) > most) most = UP(y->outputs);
        }
    for (int i = 0; i < 2; i++) s->under[i] = take(arena, B * most);
    s->product = take(arena, most * most);
    s->sums = take(arena, most);
    s->x = take(arena, (long)B * UP(net->inputs));
    s->action = take(arena, (long)policy->width * UP(B));
    s->log_prob = take(arena, UP(B));
    s->advantage = take(arena, UP(B));
    s->target = take(arena, UP(B));
    s->head = take(arena, (long)policy->outputs * UP(B));
    s->value = take(arena, UP(B));
    s->weight = take(arena, (long)(policy->outputs + 4 * policy->width) * W);
    s->lanes = take(arena, (long)policy->outputs * LANES);
    s->gradient = take(arena, net->stride);
}

/* Returns memory that is zero, or 0 if there is none. */
static char *reserve(long bytes) {
    char *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (memory) memset(memory, 0, bytes);
    return memory;
}

/* ------------------------------------------------------------------ layers */

static int outputs_of(const net_t *net, int c) {
    return net->chain[c].layer[net->chain[c].layers - 1].outputs;
}

static void prepare_forward(const net_t *net, const float *row, weights_t *w) {
    for (int c = 0; c < net->chains; c++)
        for (int l = 0; l < net->chain[c].layers; l++) {
            const layer_t *y = &net->chain[c].layer[l];
            if (!w->forward[c][l]) continue;
            transpose(y->outputs, y->inputs, row + y->weight, y->inputs, w->forward[c][l], UP(y->outputs));
            memcpy(w->bias[c][l], row + y->bias, 4L * y->outputs);
        }
}

static void prepare_backward(const net_t *net, const float *row, weights_t *w) {
    for (int c = 0; c < net->chains; c++)
        for (int l = 0; l < net->chain[c].layers; l++) {
            const layer_t *y = &net->chain[c].layer[l];
            if (w->backward[c][l])
                for (int i = 0; i < y->outputs; i++)
                    memcpy(w->backward[c][l] + (long)i * UP(y->inputs),
                           row + y->weight + (long)i * y->inputs, 4L * y->inputs);
        }
}

static void prepare(const net_t *net, const float *row, weights_t *w) {
    prepare_forward(net, row, w);
    prepare_backward(net, row, w);
}

/* The outputs of one chain for x (B, ldx); hidden[l] (B, UP(outputs)) of each layer are kept. */
static void run_chain(const net_t *net, const weights_t *w, int c, const float *x, long ldx, int B,
                      float *const *hidden) {
    const chain_t *chain = &net->chain[c];
    for (int l = 0; l < chain->layers; l++) {
        const layer_t *y = &chain->layer[l];
        long width = UP(y->outputs);
        multiply(B, UP8(y->outputs), y->inputs, x, ldx, 1, w->forward[c][l], width, hidden[l], width,
                 w->bias[c][l]);
        if (l < chain->layers - 1) {
            if (net->relu)
                for (long i = 0; i < B * width; i += W)
                    store(hidden[l] + i, at_least(load(hidden[l] + i), all(0)));
            else
                for (long i = 0; i < B * width; i += W)
                    store(hidden[l] + i, vtanh(load(hidden[l] + i)));
        }
        x = hidden[l];
        ldx = width;
    }
}

/* The layers of `size` samples of one agent: of each layer (size, UP(outputs)), with any numbers behind the
   outputs. Where all samples are one minibatch, its first forward pass is what the agent acted by. */
typedef float *layers_t[2][MAX_LAYERS];

/* Numbers of these layers. */
static long layers_of(const net_t *net, long size) {
    long numbers = 0;
    for (int c = 0; c < net->chains; c++)
        for (int l = 0; l < net->chain[c].layers; l++) numbers += size * UP(net->chain[c].layer[l].outputs);
    return numbers;
}

int64_t engine_layers(const net_t *net, int size) { return layers_of(net, size); }

/* Where the layers lie in `kept`, from sample `first` on. */
static void find_layers(const net_t *net, float *kept, long size, long first, layers_t layers) {
    for (int c = 0; c < net->chains; c++)
        for (int l = 0; l < net->chain[c].layers; l++) {
            const long width = UP(net->chain[c].layer[l].outputs);
            layers[c][l] = kept + first * width;
            kept += size * width;
        }
}

/* Adds the columns of a (R, C) along the rows; sums (C,). */
static void add_rows(long R, long C, const float *a, float *sums) {
    for (long n = 0; n < C; n += W) {
        v sum = all(0);
        for (long i = n; i < R * C; i += C) sum += load(a + i);
        store(sums + n, sum);
    }
}

/* Multiplies the gradient by the outputs of a hidden layer, a (R, C), with the slope of its activation
   at h; adds the columns as `add_rows` does. */
INLINE void add_slopes(int relu, long R, long C, const float *h, float *a, float *sums) {
    for (long n = 0; n < C; n += W) {
        v sum = all(0);
        for (long i = n; i < R * C; i += C) {
            v y = load(h + i), x = load(a + i);
            x = relu ? SELECT(y > 0.0f, x, all(0)) : x * madd(-y, y, all(1));
            store(a + i, x);
            sum += x;
        }
        store(sums + n, sum);
    }
}

/* The gradient by the weights and biases of chain c, from that by its outputs, s->delta[c]; that by
   the inputs is added to into (B, UP(inputs)). Each is left out where the pointer is 0. */
static void backward_chain(const net_t *net, const float *row, scratch_t *s, int c, int B,
                           float *gradient, float *into) {
    const chain_t *chain = &net->chain[c];
    const float *delta = s->delta[c];
    add_rows(B, UP(outputs_of(net, c)), delta, s->sums);
    for (int l = chain->layers - 1; l >= 0; l--) {
        const layer_t *y = &chain->layer[l];
        const float *below = l ? s->hidden[c][l - 1] : s->x;
        long inputs = UP(y->inputs), outputs = UP(y->outputs), ldb = l ? inputs : UP(net->inputs);
        int exact = y->inputs % 16 == 0;
        if (gradient) memcpy(gradient + y->bias, s->sums, 4L * y->outputs);
        if (gradient && exact)
            multiply(y->outputs, inputs, B, delta, 1, outputs, below, ldb, gradient + y->weight, inputs, 0);
        if (gradient && !exact) { /* transposed: fewer numbers are computed that nobody needs */
            multiply(y->inputs, outputs, B, below, 1, ldb, delta, outputs, s->product, outputs, 0);
            transpose(y->inputs, y->outputs, s->product, outputs, gradient + y->weight, y->inputs);
        }
        if (!l && !into) break;
        const float *weight = exact ? row + y->weight : s->weights.backward[c][l];
        float *under = s->under[l % 2];
        multiply(B, inputs, y->outputs, delta, outputs, 1, weight, inputs, under, inputs, 0);
        if (!l) {
            for (long i = 0; i < B * inputs; i += W) store(into + i, load(into + i) + load(under + i));
            break;
        }
        if (net->relu)
            add_slopes(1, B, inputs, below, under, s->sums);
        else
            add_slopes(0, B, inputs, below, under, s->sums);
        delta = under;
    }
}

/* ------------------------------------------------------------------ losses

   The torch losses of the learners (ppo.py, a2c.py, reinforce.py) are the specification. Here is
   their gradient by the outputs of the network, W samples at once:
       L = mean(-gain + value / 2 (V - target)^2 - entropy H),
   gain = min(r A, clip(r) A) with r = pi / pi_old, or log pi A. */

typedef struct {
    v log_prob, entropy;
} choice_t;

/* Of log softmax of `actions` rows of head: the entry of the action, and the entropy. `weight` keeps
   probabilities, and behind all of them, for `choice`, max, log sum and entropy. */
static choice_t categorical(const float *head, long ldh, int actions, v action, float *weight,
                            float *kept) {
    v top = load(head), sum = all(0), own = all(0), entropy = all(0);
    for (int i = 1; i < actions; i++) top = at_least(top, load(head + i * ldh));
    for (int i = 0; i < actions; i++) {
        v x = load(head + i * ldh) - top, e = vexp(x);
        store(weight + i * W, e);
        sum += e;
        own = SELECT(action == (float)i, x, own);
    }
    v log_sum = vlog(sum);
    for (int i = 0; i < actions; i++) {
        v pi = load(weight + i * W) / sum, log_pi = load(head + i * ldh) - top - log_sum;
        store(weight + i * W, pi);
        entropy = madd(-pi, log_pi, entropy);
    }
    store(kept, top);
    store(kept + W, log_sum);
    store(kept + 2 * W, entropy);
    return (choice_t){own - log_sum, entropy};
}

static float loss_gradient(const net_t *net, const policy_t *policy, const loss_t *loss,
                           const float *row, scratch_t *s, int B, float *gradient) {
    const int k = policy->outputs, width = UP(net->chain[0].layer[net->chain[0].layers - 1].outputs);
    const long Bp = UP(B), ldx = UP(net->inputs);
    const int last = net->chains - 1, at = last ? 0 : k;
    const int ldv = UP(net->chain[last].layer[net->chain[last].layers - 1].outputs);
    const float *out = s->hidden[0][net->chain[0].layers - 1];
    const float *values = s->hidden[last][net->chain[last].layers - 1] + at;
    const float *log_std = row + policy->log_std, share = 1.0f / B;
    const float *mask_of = s->x + net->inputs - k;
    float lanes[LANES] = {0};
    for (int i = 0; i < k; i++) {
        for (int j = 0; j < B; j++) s->head[i * Bp + j] = out[(long)j * width + i];
        for (int j = 0; policy->masked && j < B; j++) {
            const float mask = mask_of[j * ldx + i];
            s->head[i * Bp + j] = __builtin_fmaf(s->head[i * Bp + j], mask, (mask - 1.0f) * 1e9f);
        }
    }
    for (int j = 0; net->has_critic && j < B; j++) s->value[j] = values[(long)j * ldv];
    memset(s->lanes, 0, 4L * k * LANES);
    for (long j = 0; j < Bp; j += W) {
        v log_prob = all(0), entropy = all(0), A = load(s->advantage + j);
        vi is_there = load(LANE) + (float)j < (float)B;
        int first = 0;
        for (int h = 0; h < policy->width; h++) {
            v action = load(s->action + h * Bp + j);
            if (policy->gaussian) {
                v inverse = vexp(all(-log_std[h])), z = (action - load(s->head + h * Bp + j)) * inverse;
                log_prob = log_prob - madd(0.5f * z, z, all(log_std[h]) + 0.918938533f);
                entropy = entropy + (log_std[h] + 1.418938533f);
            } else {
                choice_t found = categorical(s->head + first * Bp + j, Bp, policy->choices[h], action,
                                             s->weight + first * W, s->weight + (k + 3L * h) * W);
                log_prob += found.log_prob;
                entropy += found.entropy;
                first += policy->choices[h];
            }
        }
        v pull, gain; /* pull: the gain's derivative by log pi */
        if (loss->clipped) {
            v ratio = vexp(log_prob - load(s->log_prob + j));
            v low = all(1.0f - loss->clip), high = all(1.0f + loss->clip);
            vi bad = A < 0.0f, inside = (bad & (ratio >= low)) | (~bad & (ratio <= high));
            gain = SELECT(bad, at_least(ratio, low), at_most(ratio, high)) * A;
            pull = SELECT(inside, ratio * A, all(0));
            pull = SELECT(ratio != ratio, ratio, pull);
        } else {
            gain = log_prob * A;
            pull = A;
        }
        v found = -gain;
        if (loss->entropy != 0.0f) found = madd(all(-loss->entropy), entropy, found);
        pull = pull * share;
        const float bonus = loss->entropy * share;
        first = 0;
        for (int h = 0; h < policy->width; h++) {
            v action = load(s->action + h * Bp + j);
            if (policy->gaussian) {
                v inverse = vexp(all(-log_std[h])), z = (action - load(s->head + h * Bp + j)) * inverse;
                v spread = SELECT(is_there, madd(pull, madd(-z, z, all(1)), all(-bonus)), all(0));
                float *own = s->lanes + h * LANES + j % LANES;
                store(own, load(own) + spread);
                store(s->head + h * Bp + j, -pull * z * inverse);
                continue;
            }
            const float *kept = s->weight + (k + 3L * h) * W;
            v top = load(kept), log_sum = load(kept + W), own = load(kept + 2 * W);
            for (int i = 0; i < policy->choices[h]; i++) {
                float *x = s->head + (first + i) * Bp + j;
                v pi = load(s->weight + (first + i) * W), is = SELECT(action == (float)i, all(1), all(0));
                v d = pull * (pi - is);
                if (loss->entropy != 0.0f) d = madd(bonus * pi, load(x) - top - log_sum + own, d);
                store(x, d);
            }
            first += policy->choices[h];
        }
        if (net->has_critic) {
            v error = load(s->value + j) - load(s->target + j);
            found = madd(0.5f * loss->value * error, error, found);
            store(s->value + j, loss->value * share * error);
        }
        float *own = lanes + j % LANES;
        store(own, load(own) + SELECT(is_there, found, all(0)));
    }
    for (int i = 0; i < k; i++) {
        for (int j = 0; policy->masked && j < B; j++) s->head[i * Bp + j] *= mask_of[j * ldx + i];
        for (int j = 0; j < B; j++) s->delta[0][(long)j * width + i] = s->head[i * Bp + j];
    }
    for (int j = 0; net->has_critic && j < B; j++) s->delta[last][(long)j * ldv + at] = s->value[j];
    if (policy->gaussian)
        for (int i = 0; i < k; i++) gradient[policy->log_std + i] = sum_lanes(s->lanes + i * LANES);
    return sum_lanes(lanes) * share;
}

/* The gradient of the loss on the samples in s, whose layers may be there; returns the loss. */
static float minibatch(const net_t *net, const policy_t *policy, const loss_t *loss,
                       const float *row, scratch_t *s, int has_layers, int B, float *gradient) {
    if (!has_layers) {
        prepare_forward(net, row, &s->weights);
        for (int c = 0; c < net->chains; c++)
            run_chain(net, &s->weights, c, s->x, UP(net->inputs), B, s->hidden[c]);
    }
    prepare_backward(net, row, &s->weights);
    float found = loss_gradient(net, policy, loss, row, s, B, gradient);
    for (int c = 0; c < net->chains; c++) backward_chain(net, row, s, c, B, gradient, 0);
    return found;
}

/* ------------------------------------------------------------------ optimizers */

static double power(double x, long n) {
    double result = 1.0;
    for (; n; n /= 2, x *= x)
        if (n % 2) result *= x;
    return result;
}

/* The factor that gives a gradient a norm of at most `most`, as torch.nn.utils.clip_grad_norm_ has it. */
static float clip(int n, const float *g, float most) {
    float lanes[LANES] = {0};
    for (int i = 0; i < n; i += LANES)
        for (int j = 0; j < LANES; j += W) {
            v x = load(g + i + j);
            store(lanes + j, madd(x, x, load(lanes + j)));
        }
    v norm = root(all(sum_lanes(lanes)));
    const float scale = most / (norm[0] + 1e-6f);
    return scale >= 1.0f ? 1.0f : scale;
}

/* One step of `n` parameters, a multiple of 16, on the clipped gradient (optimizers.py has the equations). */
static void step(const optimizer_t *o, int n, float *p, float *first, float *second, float *count,
                 float lr, const float *g) {
    const float scale = o->max_norm > 0 ? clip(n, g, o->max_norm) : 1.0f;
    if (o->kind == KEEP) {
        for (int i = 0; i < n; i += W) store(first + i, load(g + i) * scale);
    } else if (o->kind == SGD) {
        for (int i = 0; i < n; i += W) store(p + i, madd(all(-lr), load(g + i) * scale, load(p + i)));
    } else if (o->kind == RMSPROP) {
        const float rest = 1.0f - o->squares_decay;
        for (int i = 0; i < n; i += W) {
            v x = load(g + i) * scale, s = madd(all(o->squares_decay), load(second + i), x * x * rest);
            store(second + i, s);
            store(p + i, madd(all(-lr), x / (root(s) + o->eps), load(p + i)));
        }
    } else {
        *count += 1.0f;
        const double c1 = 1.0 - power(o->b1, (long)*count), c2 = 1.0 - power(o->b2, (long)*count);
        const v rate = all((float)(lr / c1)), r1 = all((float)(1.0 - o->b1));
        const v d2 = all(o->squares_decay), r2 = all((float)(1.0 - o->b2)), eps = all(o->eps);
        const v spread = 1.0f / root(all((float)c2));
        for (int i = 0; i < n; i += W) {
            v x = load(g + i) * scale, m = load(first + i);
            m = madd(r1, x - m, m);
            v s = madd(d2, load(second + i), r2 * x * x);
            store(first + i, m);
            store(second + i, s);
            store(p + i, load(p + i) - rate * m / (madd(root(s), spread, eps)));
        }
    }
}

/* ------------------------------------------------------------------ random numbers (core/rng.py) */

static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* Number `count` of the stream with this key, from 1 on; in [0, 1). */
static uint64_t bits_of(const uint64_t *key, uint64_t count) {
    return mix(mix(key[0] + count * 0x9E3779B97F4A7C15u) + key[1]);
}
static double uniform(const uint64_t *key, uint64_t count) {
    return (double)(bits_of(key, count) >> 11) * 0x1.0p-53;
}

typedef struct {
    uint64_t *number, *sorted; /* (n,) */
    int32_t *end;              /* (2 n,) of each bucket */
} sort_t;

static void place_sort(arena_t *arena, int n, sort_t *s) {
    s->number = (uint64_t *)take(arena, 2L * n);
    s->sorted = (uint64_t *)take(arena, 2L * n);
    s->end = (int32_t *)take(arena, 2L * n);
}

/* order: a random order of 0 ... n - 1. The numbers behind number `drawn` of a stream, in whose low bits is
   their place, are sorted. They are spread evenly: once each is in its bucket, few are out of order. */
static void shuffle(const uint64_t *key, uint64_t drawn, int n, sort_t *s, int32_t *order) {
    int bits = 0;
    while (n >> bits) bits++;
    const uint64_t mask = ((uint64_t)1 << bits) - 1;
    memset(s->end, 0, 4L << bits);
    for (int i = 0; i < n; i++) s->number[i] = (bits_of(key, drawn + i + 1) & ~mask) | (uint64_t)i;
    for (int i = 0; i < n; i++) s->end[s->number[i] >> (64 - bits)]++;
    for (uint64_t i = 1; i <= mask; i++) s->end[i] += s->end[i - 1];
    for (int i = 0; i < n; i++) s->sorted[--s->end[s->number[i] >> (64 - bits)]] = s->number[i];
    for (int i = 0, j; i < n; i++) {
        const uint64_t own = s->sorted[i];
        for (j = i; j && s->sorted[j - 1] > own; j--) s->sorted[j] = s->sorted[j - 1];
        s->sorted[j] = own;
    }
    for (int i = 0; i < n; i++) order[i] = (int32_t)(s->sorted[i] & mask);
}

/* ------------------------------------------------------------------ what Python calls */

/* A random order of 0 ... n - 1, as the engine draws it. Returns 1 if there is no memory. */
int engine_order(const uint64_t *key, int64_t drawn, int n, int32_t *order) {
    sort_t s;
    arena_t arena = {0};
    place_sort(&arena, n, &s);
    char *memory = arena.at = reserve((long)arena.at);
    if (!memory) return 1;
    place_sort(&arena, n, &s);
    shuffle(key, drawn, n, &s, order);
    free(memory);
    return 0;
}

/* memcpy of few numbers */
INLINE void copy(float *to, const float *from, int n) {
    int i = 0;
    for (; i + 4 <= n; i += 4) *(v4_any *)(to + i) = *(const v4_any *)(from + i);
    for (; i < n; i++) to[i] = from[i];
}

/* Copies B samples (features,) = (obs, action, log prob, advantage, target) into s. */
static void gather(const net_t *net, const policy_t *policy, const float *samples, long features,
                   const int32_t *order, int first, int B, scratch_t *s) {
    const long Bp = UP(B), ldx = UP(net->inputs);
    const int o = net->inputs, w = policy->width;
    for (int j = 0; j < B; j++) {
        const float *from = samples + (order ? order[first + j] : first + j) * features;
        copy(s->x + j * ldx, from, o);
        for (int i = 0; i < w; i++) s->action[i * Bp + j] = from[o + i];
        s->log_prob[j] = from[o + w];
        s->advantage[j] = from[o + w + 1];
        s->target[j] = from[o + w + 2];
    }
    for (long j = B; j < Bp; j++) {
        for (int i = 0; i < w; i++) s->action[i * Bp + j] = 0;
        s->log_prob[j] = s->advantage[j] = s->target[j] = 0;
    }
}

/* A - mean(A), over its standard deviation plus 1e-8; 0 from number B to UP(B), before and after. */
static void normalize(float *a, int B) {
    float lanes[LANES] = {0};
    for (int j = 0; j < B; j += W) {
        float *own = lanes + j % LANES;
        store(own, load(own) + load(a + j));
    }
    const float mean = sum_lanes(lanes) / B;
    memset(lanes, 0, sizeof lanes);
    for (int j = 0; j < B; j += W) {
        float *own = lanes + j % LANES;
        v x = SELECT(load(LANE) + (float)j < (float)B, load(a + j) - mean, all(0));
        store(a + j, x);
        store(own, madd(x, x, load(own)));
    }
    const v by = root(all(sum_lanes(lanes) / B)) + 1e-8f;
    for (int j = 0; j < B; j += W) store(a + j, load(a + j) / by);
}

/* All minibatch steps of b agents, in place: rows (b, stride), first and second moments alike, counts
   and lr (b,). samples (b, size, features). keys (b, 2) name the streams from which the order of each
   epoch is drawn, behind `drawn` numbers; 0 for the given order. kept (b, layers) has the layers of the
   samples at `rows` if there is one minibatch, in the given order; or it is 0. Mean losses go to `losses`. Returns 0, or 1 if there is no memory. */
int engine_learn(const net_t *net, const policy_t *policy, const loss_t *loss,
                 const optimizer_t *optimizer, int b, float *rows, float *first, float *second,
                 float *counts, const float *lr, const float *samples, int size, float *kept,
                 const uint64_t *keys, int64_t drawn, int epochs, int minibatches, int normalized,
                 double *losses) {
    const long features = net->inputs + policy->width + 3, stride = net->stride;
    const int most = (size + minibatches - 1) / minibatches;
    scratch_t s;
    sort_t sort;
    int32_t *order = 0;
    char *memory = 0;
    for (int turn = 0; turn < 2; turn++) { /* sizes, then places */
        arena_t arena = {memory};
        place(&arena, net, policy, most, &s);
        place_sort(&arena, size, &sort);
        order = (int32_t *)take(&arena, size);
        if (turn == 0 && !(memory = reserve((long)arena.at))) return 1;
    }
    for (long a = 0; a < b; a++) {
        float *row = rows + a * stride;
        double total = 0;
        scratch_t known = s;
        if (kept) find_layers(net, kept + a * layers_of(net, size), size, 0, known.hidden);
        memset(s.gradient, 0, 4 * stride); /* gaps between tensors: not a number, if the last row was none */
        for (long e = 0; e < epochs; e++) {
            if (keys) shuffle(keys + 2 * a, drawn + e * size, size, &sort, order);
            for (long part = 0; part < minibatches; part++) {
                const int from = size * part / minibatches, to = size * (part + 1) / minibatches;
                const int B = to - from;
                gather(net, policy, samples + a * size * features, features, keys ? order : 0, from, B, &s);
                if (normalized && B > 1) normalize(s.advantage, B);
                const int has_layers = kept && !e; /* the first step changes the parameters */
                total += minibatch(net, policy, loss, row, has_layers ? &known : &s, has_layers, B, s.gradient);
                step(optimizer, stride, row, first ? first + a * stride : 0,
                     second ? second + a * stride : 0, counts ? counts + a : 0, lr[a], s.gradient);
            }
        }
        losses[a] = total / (epochs * minibatches);
    }
    free(memory);
    return 0;
}

/* Gradients (b, stride) of the loss on samples (b, B, features); losses (b,). */
int engine_gradient(const net_t *net, const policy_t *policy, const loss_t *loss, int b,
                    const float *rows, const float *samples, int B, float *gradients,
                    float *losses) {
    const long features = net->inputs + policy->width + 3, stride = net->stride;
    scratch_t s;
    arena_t arena = {0};
    place(&arena, net, policy, B, &s);
    char *memory = arena.at = reserve((long)arena.at);
    if (!memory) return 1;
    place(&arena, net, policy, B, &s);
    for (long a = 0; a < b; a++) {
        gather(net, policy, samples + a * B * features, features, 0, 0, B, &s);
        losses[a] = minibatch(net, policy, loss, rows + a * stride, &s, 0, B, gradients + a * stride);
    }
    free(memory);
    return 0;
}

/* One step of b agents on gradients, n numbers each; the rows of all arrays are `distance` numbers apart. */
void engine_step(const optimizer_t *optimizer, int b, int n, int distance, float *rows, float *first,
                 float *second, float *counts, const float *lr, const float *gradients) {
    for (long a = 0; a < b; a++)
        step(optimizer, n, rows + a * distance, first ? first + a * distance : 0,
             second ? second + a * distance : 0, counts ? counts + a : 0, lr[a], gradients + a * distance);
}

/* ------------------------------------------------------------------ layers alone

   For losses that Python computes. Arrays have features first: x (b, inputs, B), outputs of all chains
   one after the other (b, outputs, B). `kept` (b, engine_kept), zeros at first, has inputs and hidden
   layers of the last forward pass. */

static long place_kept(arena_t arena, const net_t *net, int B, scratch_t *s) {
    const uintptr_t start = (uintptr_t)arena.at;
    s->x = take(&arena, (long)B * UP(net->inputs));
    for (int c = 0; c < net->chains; c++)
        for (int l = 0; l < net->chain[c].layers; l++)
            s->hidden[c][l] = take(&arena, (long)B * UP(net->chain[c].layer[l].outputs));
    return (long)((uintptr_t)arena.at - start) / 4;
}

static int all_outputs(const net_t *net) {
    int n = 0;
    for (int c = 0; c < net->chains; c++) n += outputs_of(net, c);
    return n;
}

int64_t engine_kept(const net_t *net, int B) {
    scratch_t s;
    return place_kept((arena_t){0}, net, B, &s);
}

/* Outputs (outputs, B) of all chains for x (inputs, B). */
static void outputs_for(const net_t *net, const float *x, int B, scratch_t *s, float *out) {
    const long ldx = UP(net->inputs);
    transpose(net->inputs, B, x, B, s->x, ldx);
    for (int c = 0; c < net->chains; c++) {
        const int n = outputs_of(net, c), last = net->chain[c].layers - 1;
        run_chain(net, &s->weights, c, s->x, ldx, B, s->hidden[c]);
        transpose(B, n, s->hidden[c][last], UP(n), out, B);
        out += (long)n * B;
    }
}

int engine_forward(const net_t *net, int b, const float *rows, const float *x, int B, float *out,
                   float *kept) {
    const long size = engine_kept(net, B), total = (long)all_outputs(net) * B;
    scratch_t s;
    arena_t arena = {0};
    place_weights(&arena, net, &s.weights, 1, 0);
    char *memory = arena.at = reserve((long)arena.at);
    if (!memory) return 1;
    place_weights(&arena, net, &s.weights, 1, 0);
    for (long a = 0; a < b; a++) {
        place_kept((arena_t){(char *)(kept + a * size)}, net, B, &s);
        prepare(net, rows + a * net->stride, &s.weights);
        outputs_for(net, x + a * net->inputs * B, B, &s, out + a * total);
    }
    free(memory);
    return 0;
}

/* slope (b, outputs, B): the gradient by outputs. That by parameters goes to gradients (b, stride),
   that by the last `wanted` inputs to into (b, wanted, B); 0 where it is not wanted. */
int engine_backward(const net_t *net, int b, const float *rows, int B, const float *slope, float *kept,
                    float *gradients, int wanted, float *into) {
    const long size = engine_kept(net, B), total = (long)all_outputs(net) * B, ldx = UP(net->inputs);
    scratch_t s;
    float *sum = 0;
    char *memory = 0;
    for (int turn = 0; turn < 2; turn++) { /* sizes, then places */
        arena_t arena = {memory};
        long most = ldx;
        place_weights(&arena, net, &s.weights, 0, 2);
        for (int c = 0; c < net->chains; c++) {
            s.delta[c] = take(&arena, (long)B * UP(outputs_of(net, c)));
            for (int l = 0; l < net->chain[c].layers; l++)
                if (UP(net->chain[c].layer[l].outputs) > most) most = UP(net->chain[c].layer[l].outputs);
        }
        for (int i = 0; i < 2; i++) s.under[i] = take(&arena, B * most);
        s.product = take(&arena, most * most);
        s.sums = take(&arena, most);
        sum = take(&arena, B * ldx);
        if (turn == 0 && !(memory = reserve((long)arena.at))) return 1;
    }
    for (long a = 0; a < b; a++) {
        const float *row = rows + a * net->stride, *from = slope + a * total;
        place_kept((arena_t){(char *)(kept + a * size)}, net, B, &s);
        prepare(net, row, &s.weights);
        memset(sum, 0, 4L * B * ldx);
        for (int c = 0; c < net->chains; c++) {
            const int n = outputs_of(net, c);
            transpose(n, B, from, B, s.delta[c], UP(n));
            from += (long)n * B;
            backward_chain(net, row, &s, c, B, gradients ? gradients + a * net->stride : 0,
                           wanted ? sum : 0);
        }
        if (wanted) {
            const float *first = sum + net->inputs - wanted;
            transpose(B, wanted, first, ldx, into + a * wanted * B, B);
        }
    }
    free(memory);
    return 0;
}

/* ------------------------------------------------------------------ Q-learning

   dqn.py has the same in numpy, and is the specification: what is one operation there is one here. */

typedef struct {
    int32_t doubled, masked; /* the target's action is that of Q; observations end with a mask */
    float scale, gamma;      /* of rewards */
} td_t;

/* The greatest of k values, the first where several are; the first that is not a number, if one is. */
static int best_of(const float *z, int k) {
    int best = 0;
    for (int i = 1; i < k && z[best] == z[best]; i++)
        if (z[i] > z[best] || z[i] != z[i]) best = i;
    return best;
}

/* Values z (k,) of actions, with -1e9 for those that the mask forbids. */
static void forbid(int k, float *z, const float *mask) {
    for (int i = 0; i < k; i++) z[i] = z[i] * mask[i] + (mask[i] - 1.0f) * 1e9f;
}

/* TD errors (b, B) of transitions (b, B, 2 o + 3) = (obs, next obs, action, reward, terminated) by
   networks Q, rows (b, stride), and their targets, `ahead` (b, stride):
       Q(s, a) - (scale r + gamma (1 - terminated) max_a' Q_ahead(s', a')).
   Where `gradients` (b, stride) is not 0, the gradient of the mean Huber loss is written there. Where
   it is 0 and `optimizer` is not, a step is taken on that gradient, as `engine_step` takes it. */
int engine_td(const net_t *net, const td_t *td, int b, float *rows, const float *ahead,
              const float *transitions, int B, float *errors, float *gradients,
              const optimizer_t *optimizer, float *first, float *second, float *counts,
              const float *lr) {
    const chain_t *chain = &net->chain[0];
    const int o = net->inputs, k = outputs_of(net, 0), last = chain->layers - 1;
    const long ldx = UP(o), width = UP(k), features = 2 * o + 3, stride = net->stride;
    const policy_t none = {0};
    weights_t of_target;
    scratch_t s;
    float *hidden[MAX_LAYERS], *after = 0;
    char *memory = 0;
    for (int turn = 0; turn < 2; turn++) { /* sizes, then places */
        arena_t arena = {memory};
        place(&arena, net, &none, B, &s);
        place_weights(&arena, net, &of_target, 1, 0);
        for (int l = 0; l < chain->layers; l++)
            hidden[l] = take(&arena, (long)B * UP(chain->layer[l].outputs));
        after = take(&arena, B * ldx);
        if (turn == 0 && !(memory = reserve((long)arena.at))) return 1;
    }
    for (long a = 0; a < b; a++) {
        float *row = rows + a * stride, *error = errors + a * B;
        const float *from = transitions + a * B * features;
        for (long j = 0; j < B; j++) {
            copy(s.x + j * ldx, from + j * features, o);
            copy(after + j * ldx, from + j * features + o, o);
        }
        prepare(net, row, &s.weights);
        prepare(net, ahead + a * stride, &of_target);
        run_chain(net, &of_target, 0, after, ldx, B, hidden);
        if (td->doubled) run_chain(net, &s.weights, 0, after, ldx, B, s.hidden[0]);
        for (long j = 0; j < B; j++) {
            const float *own = from + j * features + 2 * o, *mask = after + j * ldx + o - k;
            float *values = hidden[last] + j * width;
            float *judge = td->doubled ? s.hidden[0][last] + j * width : values;
            if (td->masked) forbid(k, values, mask);
            if (td->masked && td->doubled) forbid(k, judge, mask);
            error[j] = td->scale * own[1] + td->gamma * (1.0f - own[2]) * values[best_of(judge, k)];
        }
        run_chain(net, &s.weights, 0, s.x, ldx, B, s.hidden[0]);
        memset(s.delta[0], 0, 4L * B * width);
        for (long j = 0; j < B; j++) {
            const int action = (int)from[j * features + 2 * o];
            float *slope = s.delta[0] + j * width + action, e = s.hidden[0][last][j * width + action];
            error[j] = e = e - error[j];
            *slope = (e > 1.0f ? 1.0f : e < -1.0f ? -1.0f : e) / (float)B;
        }
        if (gradients) {
            backward_chain(net, row, &s, 0, B, gradients + a * stride, 0);
        } else if (optimizer) {
            memset(s.gradient, 0, 4 * stride); /* gaps between tensors, as in `engine_learn` */
            backward_chain(net, row, &s, 0, B, s.gradient, 0);
            step(optimizer, stride, row, first ? first + a * stride : 0,
                 second ? second + a * stride : 0, counts ? counts + a : 0, lr[a], s.gradient);
        }
    }
    free(memory);
    return 0;
}

/* ------------------------------------------------------------------ acting */

/* What acting of one agent needs; the memory is that of `actor_place`. */
typedef struct {
    weights_t weights;
    float *hidden[2][MAX_LAYERS], *x;
    float *head;   /* (outputs, UP(m)) */
    float *weight; /* (outputs, W) unnormalized probabilities */
} actor_t;

static void place_actor(arena_t *arena, const net_t *net, const policy_t *policy, int m,
                        actor_t *a) {
    for (int c = 0; c < net->chains; c++)
        for (int l = 0; l < net->chain[c].layers; l++)
            a->hidden[c][l] = take(arena, (long)m * UP(net->chain[c].layer[l].outputs));
    a->x = take(arena, (long)m * UP(net->inputs));
    a->head = take(arena, (long)policy->outputs * UP(m));
    a->weight = take(arena, (long)policy->outputs * W);
}

/* The actions of W instances, whose logits are the columns of z (actions, ldz): of each the number of actions
   whose cumulated probability is up to `uniform`. */
static v draw(const float *z, long ldz, int actions, v uniform, float *weight, v *log_prob) {
    v top = load(z), sum = all(0), cumulated = all(0), action = all(0);
    for (int i = 1; i < actions; i++) top = at_least(top, load(z + i * ldz));
    v own = load(z) - top;
    for (int i = 0; i < actions; i++) {
        v e = vexp(load(z + i * ldz) - top);
        store(weight + i * W, e);
        sum += e;
    }
    v limit = uniform * sum;
    for (int i = 0; i < actions - 1; i++) {
        cumulated += load(weight + i * W);
        vi is_passed = cumulated <= limit;
        action += SELECT(is_passed, all(1), all(0));
        own = SELECT(is_passed, load(z + (i + 1) * ldz) - top, own);
    }
    *log_prob += own - vlog(sum);
    return action;
}

/* The likeliest actions, the first where several are. */
static v likeliest(const float *z, long ldz, int actions) {
    v top = load(z), action = all(0);
    for (int i = 1; i < actions; i++) {
        v own = load(z + i * ldz);
        action = SELECT(own > top, all((float)i), action);
        top = at_least(top, own);
    }
    return action;
}

/* Acts on m observations (m, o), of which the network sees `seen`. noise (width, m), or 0 for the
   likeliest actions. Writes (obs, action, log prob) to m samples (features,) and values (m,), where
   these are; actions to chosen (m, width) as whole numbers, or to moved as they are. The layers stay in s. */
static void act(const net_t *net, const policy_t *policy, const float *row, const weights_t *w,
                actor_t *s, int m, const float *obs, const float *seen, const float *noise,
                float *samples, float *values, int64_t *chosen, float *moved) {
    const int o = net->inputs, k = policy->outputs, width = policy->width, last = net->chain[0].layers - 1;
    const long features = o + width + 3, ldx = UP(o), ldz = UP(m), ldo = UP(outputs_of(net, 0));
    const float *out = s->hidden[0][last], *log_std = row + policy->log_std;
    for (int j = 0; j < m; j++) copy(s->x + j * ldx, seen + (long)j * o, o);
    run_chain(net, w, 0, s->x, ldx, m, s->hidden[0]);
    transpose(m, k, out, ldo, s->head, ldz);
    for (int i = 0; policy->masked && i < k; i++)
        for (int j = 0; j < m; j++) {
            const float mask = obs[(long)j * o + o - k + i];
            s->head[i * ldz + j] = __builtin_fmaf(s->head[i * ldz + j], mask, (mask - 1.0f) * 1e9f);
        }
    for (int j = 0; j < m; j += W) {
        const int count = m - j < W ? m - j : W;
        v log_prob = all(0);
        float number[W] = {0};
        const float *z = s->head + j;
        for (int h = 0; h < width; h++) {
            v action, drawn = all(0);
            if (noise) {
                copy(number, noise + (long)h * m + j, count);
                drawn = load(number);
            }
            if (policy->gaussian) {
                v mean = load(z);
                action = mean;
                if (noise) {
                    action = madd(vexp(all(log_std[h])), drawn, mean);
                    v apart = (action - mean) * vexp(all(-log_std[h]));
                    log_prob -= madd(0.5f * apart, apart, all(log_std[h] + 0.918938533f));
                }
                z += ldz;
            } else {
                const int actions = policy->choices[h];
                action = noise ? draw(z, ldz, actions, drawn, s->weight, &log_prob) : likeliest(z, ldz, actions);
                z += actions * ldz;
            }
            store(number, action);
            for (long i = 0; i < count; i++) {
                if (samples) samples[(j + i) * features + o + h] = number[i];
                if (chosen) chosen[(j + i) * width + h] = (int64_t)number[i];
                if (moved) moved[(j + i) * width + h] = number[i];
            }
        }
        store(number, log_prob);
        for (long i = 0; samples && i < count; i++) {
            copy(samples + (j + i) * features, obs + (j + i) * o, o);
            samples[(j + i) * features + o + width] = number[i];
        }
    }
    for (int j = 0; values && j < m; j++) values[j] = out[j * ldo + k];
}

/* Numbers that `engine_prepare` writes for one agent. */
int64_t engine_prepared(const net_t *net) {
    weights_t w;
    arena_t arena = {0};
    place_weights(&arena, net, &w, 1, 0);
    return (long)arena.at / 4;
}

/* Writes the weights of b agents as acting needs them, (b, engine_prepared), zeros before. */
void engine_prepare(const net_t *net, int b, const float *rows, float *prepared) {
    const long size = engine_prepared(net);
    for (long a = 0; a < b; a++) {
        weights_t w;
        arena_t arena = {(char *)(prepared + a * size)};
        place_weights(&arena, net, &w, 1, 0);
        prepare(net, rows + a * net->stride, &w);
    }
}

/* One step of b agents with m instances each: obs and seen (b, m, o), noise (b, steps, width, m) of
   which step `t` counts, samples (b, steps m, features), values (b, steps, m), layers of all samples in kept,
   each where it is not 0; `act` says the rest. */
int engine_act(const net_t *net, const policy_t *policy, int b, const float *rows,
               const float *prepared, int m, const float *obs, const float *seen,
               const float *noise, int steps, int t, float *samples, float *values, float *kept,
               int64_t *chosen, float *moved) {
    const long size = engine_prepared(net), o = net->inputs, width = policy->width;
    const long features = o + width + 3;
    actor_t s;
    arena_t arena = {0};
    place_actor(&arena, net, policy, m, &s);
    char *memory = arena.at = reserve((long)arena.at);
    if (!memory) return 1;
    place_actor(&arena, net, policy, m, &s);
    for (long a = 0; a < b; a++) {
        weights_t w;
        const long at = a * steps + t;
        arena_t own = {(char *)(prepared + a * size)};
        place_weights(&own, net, &w, 1, 0);
        const long count = (long)steps * m;
        if (kept) find_layers(net, kept + a * layers_of(net, count), count, (long)t * m, s.hidden);
        act(net, policy, rows + a * net->stride, &w, &s, m, obs + a * m * o, seen + a * m * o,
            noise ? noise + at * width * m : 0, samples ? samples + at * m * features : 0,
            values ? values + at * m : 0, chosen ? chosen + a * m * width : 0,
            moved ? moved + a * m * width : 0);
    }
    free(memory);
    return 0;
}

/* Values (b, q) of observations, the first numbers of (b, q, distance); their layers go to kept, if it is
   not 0. */
int engine_values(const net_t *net, const policy_t *policy, int b, const float *prepared, int q,
                  const float *obs, int distance, float *values, float *kept) {
    const long size = engine_prepared(net);
    enum { MOST = 64 };
    actor_t s;
    arena_t arena = {0};
    place_actor(&arena, net, policy, MOST, &s);
    char *memory = arena.at = reserve((long)arena.at);
    if (!memory) return 1;
    place_actor(&arena, net, policy, MOST, &s);
    const int c = net->chains - 1, l = net->chain[c].layers - 1;
    const long ldv = UP(net->chain[c].layer[l].outputs), ldx = UP(net->inputs);
    for (long a = 0; a < b; a++) {
        weights_t w;
        arena_t own = {(char *)(prepared + a * size)};
        place_weights(&own, net, &w, 1, 0);
        for (long first = 0; first < q; first += MOST) {
            const int B = q - first < MOST ? q - first : MOST;
            for (int j = 0; j < B; j++)
                copy(s.x + j * ldx, obs + (a * q + first + j) * distance, net->inputs);
            if (kept) find_layers(net, kept + a * layers_of(net, q), q, first, s.hidden);
            run_chain(net, &w, c, s.x, ldx, B, s.hidden[c]);
            for (int j = 0; j < B; j++)
                values[a * q + first + j] = s.hidden[c][l][j * ldv + (c ? 0 : policy->outputs)];
        }
    }
    free(memory);
    return 0;
}

/* Generalized advantage estimation (rollout.py): advantages and value targets go to the last two of
   `features` numbers of samples (b, steps, m, features). All others are (b, steps, m). */
void engine_advantages(int b, int steps, int m, const float *reward, const float *value,
                       const float *next_value, const uint8_t *finished, float scale, float gamma,
                       float carry, int features, float *samples) {
    for (long a = 0; a < b; a++)
        for (int j = 0; j < m; j++) {
            float tail = 0;
            for (long t = steps - 1; t >= 0; t--) {
                const long at = (a * steps + t) * m + j;
                const float gain = __builtin_fmaf(gamma, next_value[at], reward[at] * scale);
                tail = __builtin_fmaf(finished[at] ? 0.0f : carry, tail, gain - value[at]);
                samples[(at + 1) * features - 2] = tail;
                samples[(at + 1) * features - 1] = tail + value[at];
            }
        }
}

/* ------------------------------------------------------------------ CartPole (cartpole.py) */

/* sin and cos, to 1e-16; not a number from 1e15 on. pi/2 is subtracted in three parts; polynomials of
   fdlibm (Sun Microsystems, 1993). */
static void sin_cos(double x, double *sine, double *cosine) {
    if (!(x < 1e15 && x > -1e15)) {
        *sine = *cosine = __builtin_nan("");
        return;
    }
    const double magic = 6755399441055744.0; /* adding it rounds to a whole number */
    const double n = __builtin_fma(x, 0.6366197723675814, magic) - magic;
    double r = __builtin_fma(-n, 1.5707963267948966, x);
    r = __builtin_fma(-n, 6.123233995736766e-17, r);
    r = __builtin_fma(-n, -1.4973849048591833e-33, r);
    const double z = r * r;
    double s = __builtin_fma(z, 1.58969099521155010221e-10, -2.50507602534068634195e-08);
    s = __builtin_fma(s, z, 2.75573137070700676789e-06);
    s = __builtin_fma(s, z, -1.98412698298579493134e-04);
    s = __builtin_fma(s, z, 8.33333333332248946124e-03);
    s = __builtin_fma(s, z, -1.66666666666666324348e-01);
    s = __builtin_fma(s * z, r, r);
    double c = __builtin_fma(z, -1.13596475577881948265e-11, 2.08757232129817482790e-09);
    c = __builtin_fma(c, z, -2.75573143513906633035e-07);
    c = __builtin_fma(c, z, 2.48015872894767294178e-05);
    c = __builtin_fma(c, z, -1.38888888888741095749e-03);
    c = __builtin_fma(c, z, 4.16666666666666019037e-02);
    c = __builtin_fma(c * z, z, __builtin_fma(z, -0.5, 1.0));
    const int64_t quarter = (int64_t)n & 3;
    *sine = quarter == 0 ? s : quarter == 1 ? c : quarter == 2 ? -s : -c;
    *cosine = quarter == 0 ? c : quarter == 1 ? -s : quarter == 2 ? -c : s;
}

/* One Euler step of a state (4,), as cartpole.py computes it; physics: gravity, mass of the cart and
   of the pole, length, force. Returns whether the episode is over. */
static int cartpole_step(const double *physics, double *state, int64_t action) {
    const double tau = 0.02, total = physics[2] + physics[1], moment = physics[2] * physics[3];
    const double force = action == 1 ? physics[4] : -physics[4];
    double sine, cosine;
    sin_cos(state[2], &sine, &cosine);
    const double square = state[3] * state[3];
    const double push = __builtin_fma(moment * square, sine, force) / total;
    const double lever = 4.0 / 3.0 - physics[2] * (cosine * cosine) / total;
    const double turn = __builtin_fma(physics[0], sine, -(cosine * push)) / (physics[3] * lever);
    const double pull = push - moment * turn * cosine / total;
    state[0] = __builtin_fma(tau, state[1], state[0]);
    state[1] = __builtin_fma(tau, pull, state[1]);
    state[2] = __builtin_fma(tau, state[3], state[2]);
    state[3] = __builtin_fma(tau, turn, state[3]);
    const double angle = 12 * 2 * 3.141592653589793 / 360;
    return state[0] > 2.4 || state[0] < -2.4 || state[2] > angle || state[2] < -angle;
}

static void observe(int m, const double *state, float *obs) {
    for (int i = 0; i < 4 * m; i++) obs[i] = (float)state[i];
}

static int are_finite(int n, const float *x) {
    float none = 0;
    for (int i = 0; i < n; i++) none += x[i] - x[i];
    return none == 0;
}

/* A rollout of b agents, `steps` steps of m instances each. state (b, m, 4), elapsed and returns
   (b, m) go on from update to update. keys (b, 2) name the streams of resets, and action_keys (b, 2) those
   of actions (policies.py: Categorical), of which `drawn` numbers were taken before. Writes samples
   (b, steps, m, features) as `act`, values of observations and of true successors (as `Rollout` has
   them) and whether episodes ended (b, steps, m); since when they run (b, steps, m); and the returns of
   the episodes that ended, `count` (b,) of (b, steps m). A limit of 0 is none. With `episodes` above 0 an
   agent stops after the step at which so many have ended; `taken` (b,) counts its steps, or is -1 where an
   observation is not finite. Where `forced`
   (b, steps, m) is not 0, the environment takes its actions from 0 on in place of the agents' own. The
   layers of all samples go to kept, if it is not 0. */
int engine_cartpole(const net_t *net, const policy_t *policy, int b, const float *rows,
                    const double *physics, double *state, int64_t *elapsed, double *returns,
                    const uint64_t *keys, int m, int steps, int episodes, int64_t limit,
                    const uint64_t *action_keys, int64_t drawn, const int64_t *forced, float *samples,
                    float *value, float *next_value, uint8_t *finished, int64_t *since, double *ended,
                    int32_t *count, int32_t *taken, float *kept) {
    const long o = 4, features = o + 1 + 3, size = (long)steps * m;
    const int c = net->chains - 1, l = net->chain[c].layers - 1;
    const int at_value = c ? 0 : policy->outputs;
    const long ldv = UP(net->chain[c].layer[l].outputs), ldx = UP(o);
    actor_t s;
    float *obs = 0, *ahead = 0, *noise = 0;
    int64_t *chosen = 0;
    char *memory = 0;
    for (int turn = 0; turn < 2; turn++) { /* sizes, then places */
        arena_t arena = {memory};
        place_actor(&arena, net, policy, m, &s);
        place_weights(&arena, net, &s.weights, 1, 0);
        obs = take(&arena, o * m);
        ahead = take(&arena, o * m);
        noise = take(&arena, size);
        chosen = (int64_t *)take(&arena, 2L * m);
        if (turn == 0 && !(memory = reserve((long)arena.at))) return 1;
    }
    for (long a = 0; a < b; a++) {
        const float *row = rows + a * net->stride;
        double *own = state + a * m * o;
        prepare(net, row, &s.weights);
        observe(m, own, obs);
        for (long i = 0; i < size; i++) {
            const float number = (float)uniform(action_keys + 2 * a, drawn + i + 1);
            noise[i] = number < 1.0f ? number : 0x1.fffffep-1f; /* the greatest below 1 */
        }
        count[a] = 0;
        taken[a] = steps;
        actor_t own_step = s; /* with the layers of its samples */
        for (int t = 0; t <= steps; t++) {
            const long at = a * size + (long)t * m;
            const int is_last = t == steps;
            actor_t *now = is_last ? &s : &own_step;
            if (kept && !is_last)
                find_layers(net, kept + a * layers_of(net, size), size, (long)t * m, now->hidden);
            if (!is_last && !are_finite(o * m, obs)) {
                taken[a] = -1;
                break;
            }
            if (!is_last)
                act(net, policy, row, &s.weights, now, m, obs, obs, noise + (long)t * m,
                    samples + at * features, 0, chosen, 0);
            if (net->has_critic) {
                if (c || is_last) {
                    for (int j = 0; j < m; j++) copy(s.x + j * ldx, obs + j * o, o);
                    run_chain(net, &s.weights, c, s.x, ldx, m, now->hidden[c]);
                }
                for (int j = 0; j < m; j++) {
                    const float found = now->hidden[c][l][j * ldv + at_value];
                    if (!is_last) value[at + j] = found;
                    if (t && !finished[at - m + j]) next_value[at - m + j] = found;
                }
            }
            if (is_last) break;
            int is_cut = 0;
            for (int j = 0; j < m; j++) {
                const int64_t action = forced && forced[at + j] >= 0 ? forced[at + j] : chosen[j];
                const int over = cartpole_step(physics + 5 * a, own + j * o, action);
                const int64_t age = ++elapsed[a * m + j];
                const int cut = !over && limit && age >= limit;
                returns[a * m + j] += 1.0;
                since[at + j] = age - 1;
                finished[at + j] = over || cut ? 1 + cut : 0;
                next_value[at + j] = 0;
                is_cut |= cut;
            }
            if (is_cut && net->has_critic) {
                observe(m, own, ahead);
                for (int j = 0; j < m; j++) copy(s.x + j * ldx, ahead + j * o, o);
                run_chain(net, &s.weights, c, s.x, ldx, m, s.hidden[c]);
                for (int j = 0; j < m; j++)
                    if (finished[at + j] == 2) next_value[at + j] = s.hidden[c][l][j * ldv + at_value];
            }
            for (int j = 0; j < m; j++) {
                if (!finished[at + j]) continue;
                finished[at + j] = 1;
                ended[a * size + count[a]++] = returns[a * m + j];
                returns[a * m + j] = 0;
                elapsed[a * m + j] = 0;
                for (int i = 0; i < o; i++) {
                    const uint64_t number = ((uint64_t)t * m + j) * o + i + 1;
                    own[j * o + i] = uniform(keys + 2 * a, number) * 0.1 - 0.05;
                }
            }
            observe(m, own, obs);
            if (episodes && count[a] >= episodes) {
                taken[a] = t + 1;
                break;
            }
        }
    }
    free(memory);
    return 0;
}

/* One greedy episode of b agents in each of m instances, of at most `limit` steps: the return (b, m) of
   each, not a number where a state is none. state (b, m, 4) is where they start, and is used up. An
   instance whose episode has ended takes no more steps: the last that goes on takes its place. */
int engine_episodes(const net_t *net, const policy_t *policy, int b, const float *rows,
                    const double *physics, double *state, int m, int64_t limit, double *returns) {
    const long o = 4;
    actor_t s;
    arena_t arena = {0};
    place_actor(&arena, net, policy, m, &s);
    place_weights(&arena, net, &s.weights, 1, 0);
    float *obs = take(&arena, o * m);
    int64_t *chosen = (int64_t *)take(&arena, 2L * m), *place = (int64_t *)take(&arena, 2L * m);
    char *memory = arena.at = reserve((long)arena.at);
    if (!memory) return 1;
    place_actor(&arena, net, policy, m, &s);
    place_weights(&arena, net, &s.weights, 1, 0);
    obs = take(&arena, o * m);
    chosen = (int64_t *)take(&arena, 2L * m), place = (int64_t *)take(&arena, 2L * m);
    for (long a = 0; a < b; a++) {
        const float *row = rows + a * net->stride;
        double *own = state + a * m * o;
        prepare(net, row, &s.weights);
        for (int j = 0; j < m; j++) place[j] = j;
        int left = m;
        for (int64_t t = 1; left; t++) {
            observe(left, own, obs);
            act(net, policy, row, &s.weights, &s, left, obs, obs, 0, 0, 0, chosen, 0);
            for (int j = left - 1; j >= 0; j--) {
                double *one = own + j * o;
                const int over = cartpole_step(physics + 5 * a, one, chosen[j]);
                const double sum = one[0] + one[1] + one[2] + one[3], none = sum - sum;
                if (!over && t < limit && none == 0) continue;
                returns[a * m + place[j]] = t + none;
                place[j] = place[--left];
                for (int i = 0; i < o; i++) one[i] = own[left * o + i];
            }
        }
    }
    free(memory);
    return 0;
}

/* Makes k vectors of n numbers, (k, n), orthonormal, in place; n is a multiple of 16. Gram and Schmidt,
   twice: Giraud, Langou, Rozloznik, On the round-off error analysis of the Gram-Schmidt algorithm with
   reorthogonalization, 2002. */
static double dot(int n, const double *a, const double *b) {
    double x[LANES] = {0};
    for (int i = 0; i < n; i += LANES)
        for (int j = 0; j < LANES; j++) x[j] = __builtin_fma(a[i + j], b[i + j], x[j]);
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    return x[0];
}
void engine_orthogonal(int k, int n, double *a) {
    for (long i = 0; i < k; i++) {
        double *own = a + i * n;
        for (int pass = 0; pass < 2; pass++)
            for (long j = 0; j < i; j++) {
                const double *other = a + j * n, share = dot(n, own, other);
                for (int t = 0; t < n; t++) own[t] = __builtin_fma(-share, other[t], own[t]);
            }
        const double length = __builtin_sqrt(dot(n, own, own));
        for (int t = 0; t < n; t++) own[t] /= length;
    }
}

/* Values of exp, log and tanh (kind 0, 1, 2) of n numbers, a multiple of 16. */
void engine_function(int kind, int n, const float *x, float *y) {
    for (int i = 0; i < n; i += W) {
        v found = load(x + i);
        store(y + i, kind == 0 ? vexp(found) : kind == 1 ? vlog(found) : vtanh(found));
    }
}

/* ------------------------------------------------------------------ what the record measures

   Vectors are parameters without gaps, d numbers each, one behind the other; each may lie anywhere.
   `results/distances.py` has the first two in numpy, with the same bits. */

/* What numpy's arrays and types of numbers have behind the head of an object. Extensions that were compiled
   for one version read them in others. numpy/ndarraytypes.h: PyArrayObject_fields, PyArray_Descr. */
typedef struct {
    const float *data;
    int32_t axes;
    const intptr_t *shape, *strides;
    const char *base, *type;
    int32_t flags; /* the first: numbers lie one behind the other */
} array_t;
typedef struct {
    const void *class;
    char kind, letter, order, unused; /* order of bytes: '>' is another one than ours */
    int32_t number;
} type_t;

/* Arrays of a class whose numbers are of one type. An object begins with `head` bytes, and these end with
   its class. */
typedef struct {
    const void *class;
    int32_t head, number;
} kind_t;

static const array_t *array_of(const char *object, const kind_t *kind) {
    return (const array_t *)(object + kind->head);
}

/* Whether each of n objects is an array of this kind with d numbers, one behind the other. */
static int are_arrays(int n, const char *const *objects, const kind_t *kind, int d) {
    for (int i = 0; i < n; i++) {
        const array_t *array = array_of(objects[i], kind);
        if (((const void *const *)array)[-1] != kind->class) return 0;
        const type_t *type = (const type_t *)(array->type + kind->head);
        if (type->number != kind->number || type->order == '>') return 0;
        if (array->axes != 1 || *array->shape != d || !(array->flags & 1)) return 0;
    }
    return 1;
}

/* Writes where the numbers of n arrays lie, if `are_arrays`; returns whether they are. */
int engine_places(int n, const char *const *objects, const kind_t *kind, int d, const float **places) {
    if (!are_arrays(n, objects, kind, d)) return 0;
    for (int i = 0; i < n; i++) places[i] = array_of(objects[i], kind)->data;
    return 1;
}

#define PIECE 512

/* Adds k moves one after the other to a sum (d,) behind which its rounding errors (d,) are kept, if
   `are_arrays`: the vectors before and after each move. Returns whether they are. Knuth, The art of computer
   programming 2, section 4.2.2, theorem B. */
int engine_add_moves(int k, const char *const *moves, const kind_t *kind, int d, double *sums) {
    if (!are_arrays(2 * k, moves, kind, d)) return 0;
    for (int first = 0; first < d; first += PIECE) {
        const int count = d - first < PIECE ? d - first : PIECE;
        double *restrict total = sums + first, *restrict rest = sums + d + first;
        for (int move = 0; move < k; move++) {
            const float *restrict from = array_of(moves[2 * move], kind)->data + first;
            const float *restrict to = array_of(moves[2 * move + 1], kind)->data + first;
            for (int i = 0; i < count; i++) {
                double x = (double)to[i] - (double)from[i], old = total[i], high = old + x;
                double part = high - old;
                rest[i] += (old - (high - part)) + (x - part);
                total[i] = high;
            }
        }
    }
    return 1;
}

/* numpy adds a row in halves of at most 128 numbers, and each of these in 8 lanes. */
#define HALF(n) ((n) / 2 - (n) / 2 % 8)
#define LEAF 128

/* The sum of n numbers, at most LEAF of them. */
static double sum_of(const double *a, long n) {
    if (n < 8) {
        double sum = -0.0;
        for (long i = 0; i < n; i++) sum += a[i];
        return sum;
    }
    double r[8];
    long i = 8;
    memcpy(r, a, sizeof r);
    for (; i < n - n % 8; i += 8)
        for (int j = 0; j < 8; j++) r[j] += a[i + j];
    double sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    for (; i < n; i++) sum += a[i];
    return sum;
}

/* The sum of n numbers. */
static double sum_of_row(const double *a, long n) {
    return n <= LEAF ? sum_of(a, n) : sum_of_row(a, HALF(n)) + sum_of_row(a + HALF(n), n - HALF(n));
}

/* The variance of n numbers, which are overwritten. */
static double variance(double *a, long n) {
    const double mean = sum_of_row(a, n) / n;
    for (long i = 0; i < n; i++) a[i] = (a[i] - mean) * (a[i] - mean);
    return sum_of_row(a, n) / n;
}

/* The share of the variance of value targets that a critic explains (rollout.py), (b,); the targets are the
   last of `features` numbers of samples (b, size, features), value (b, size). */
int engine_explained(int b, int size, const float *value, const float *samples, int features, double *share) {
    double *target = malloc(16L * size), *error = target + size;
    if (!target) return 1;
    for (long a = 0; a < b; a++) {
        for (int j = 0; j < size; j++) {
            const long at = a * size + j;
            target[j] = samples[(at + 1) * features - 1];
            error[j] = target[j] - value[at];
        }
        const double unknown = variance(error, size), whole = variance(target, size);
        share[a] = whole > 0 ? 1.0 - unknown / whole : __builtin_nan("");
    }
    free(target);
    return 0;
}

/* Squared distances of `others` vectors, `rows`, to the mean of b vectors, which is known up to a number. */
typedef struct {
    int b, others, d, known;
    const float *const *vectors, *const *rows;
    double *mean;
} apart_t;

/* Computes the mean up to a number, some numbers of all vectors at a time: they stay in the cache for
   whoever asked. */
static void know_mean(apart_t *s, int end) {
    for (; s->known < end; s->known += PIECE) {
        const int first = s->known, count = s->d - first < PIECE ? s->d - first : PIECE;
        double *restrict mean = s->mean + first;
        int a = 0;
        for (; a + 4 <= s->b; a += 4) { /* the mean so far comes first */
            const float *x = s->vectors[a] + first, *y = s->vectors[a + 1] + first;
            const float *z = s->vectors[a + 2] + first, *u = s->vectors[a + 3] + first;
            for (int i = 0; i < count; i++) mean[i] = (((mean[i] + x[i]) + y[i]) + z[i]) + u[i];
        }
        for (; a < s->b; a++)
            for (int i = 0; i < count; i++) mean[i] += s->vectors[a][first + i];
        for (int i = 0; i < count; i++) mean[i] /= s->b;
    }
}

/* The sum of squared differences of n numbers, 8 to LEAF, as `sum_of` adds them. */
static double squares_of(const float *x, const double *mean, long n) {
    double r[8] = {0};
    long i = 0;
    for (; i < n - n % 8; i += 8) {
        double apart[8];
        for (int j = 0; j < 8; j++) apart[j] = x[i + j] - mean[i + j];
        for (int j = 0; j < 8; j++) r[j] += apart[j] * apart[j];
    }
    double sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    for (; i < n; i++) sum += (x[i] - mean[i]) * (x[i] - mean[i]);
    return sum;
}

/* The sums of squares at n places of all rows, from the place `first` on. `pieces` of the rows are filled
   from vectors: (place, first number, how many) of each. `room` has others numbers for each halving. */
static void squares_at(apart_t *s, const int32_t (*piece)[3], int pieces, long first, long n, double *sums,
                       double *room) {
    if (n > LEAF) {
        squares_at(s, piece, pieces, first, HALF(n), sums, room);
        squares_at(s, piece, pieces, first + HALF(n), n - HALF(n), room, room + s->others);
        for (int other = 0; other < s->others; other++) sums[other] += room[other];
        return;
    }
    while (pieces && (*piece)[0] + (*piece)[2] <= first) piece++, pieces--;
    while (pieces && piece[pieces - 1][0] >= first + n) pieces--;
    if (pieces) know_mean(s, piece[pieces - 1][1] + piece[pieces - 1][2]);
    if (pieces == 1 && (*piece)[0] <= first && first + n <= (*piece)[0] + (*piece)[2] && n >= 8) {
        const long at = (*piece)[1] + first - (*piece)[0];
        for (int other = 0; other < s->others; other++)
            sums[other] = squares_of(s->rows[other] + at, s->mean + at, n);
        return;
    }
    double row[LEAF] = {0};
    for (int other = 0; other < s->others; other++) {
        for (int p = 0; p < pieces; p++) {
            const long place = piece[p][0], at = piece[p][1] - place, end = place + piece[p][2];
            for (long i = place < first ? first : place; i < first + n && i < end; i++) {
                const double apart = s->rows[other][at + i] - s->mean[at + i];
                row[i - first] = apart * apart;
            }
        }
        sums[other] = sum_of(row, n);
    }
}

/* Squared distances (sums, others) of `others` vectors to the mean of b. Each of the sums goes over
   `widths` places, which `counts` pieces fill from vectors: (place, first number, how many) of each piece
   in `pieces`. The other places are 0. */
int engine_squares(int b, const float *const *vectors, int others, const float *const *rows, int d,
                   int sums, const int32_t *widths, const int32_t *counts, const int32_t (*pieces)[3],
                   double *squares) {
    long halvings = 1;
    for (int s = 0; s < sums; s++)
        for (long n = widths[s], depth = 1; n > LEAF; n -= HALF(n), depth++)
            if (halvings < depth) halvings = depth;
    double *memory = (double *)reserve(8L * (d + halvings * others));
    if (!memory) return 1;
    apart_t apart = {b, others, d, 0, vectors, rows, memory};
    for (int s = 0; s < sums; s++) {
        squares_at(&apart, pieces, counts[s], 0, widths[s], squares + (long)s * others, memory + d);
        pieces += counts[s];
    }
    free(memory);
    return 0;
}

/* Outputs (b, outputs, B) of b networks for x (b, inputs, B), `own`, and those of the network of their
   mean (d,), `common`. Places in `net` are places in vectors. */
int engine_compare(const net_t *net, int b, int d, const float *const *vectors, const float *x, int B,
                   float *restrict mean, float *own, float *common) {
    const long total = (long)all_outputs(net) * B;
    scratch_t s;
    char *memory = 0;
    for (int turn = 0; turn < 2; turn++) { /* sizes, then places */
        arena_t arena = {memory};
        place_weights(&arena, net, &s.weights, 1, 0);
        const long size = place_kept(arena, net, B, &s);
        take(&arena, size);
        if (turn == 0 && !(memory = reserve((long)arena.at))) return 1;
    }
    memset(mean, 0, 4L * d);
    for (long a = 0; a < b; a++) {
        if (a % 4 == 0) { /* the mean so far comes first; what is read for it is in the cache below */
            const float *p = vectors[a];
            if (a + 4 <= b) {
                const float *q = vectors[a + 1], *r = vectors[a + 2], *t = vectors[a + 3];
                for (int i = 0; i < d; i++) mean[i] = (((mean[i] + p[i]) + q[i]) + r[i]) + t[i];
            } else
                for (long last = a; last < b; last++)
                    for (int i = 0; i < d; i++) mean[i] += vectors[last][i];
        }
        prepare(net, vectors[a], &s.weights);
        outputs_for(net, x + a * net->inputs * B, B, &s, own + a * total);
    }
    for (int i = 0; i < d; i++) mean[i] /= b;
    prepare(net, mean, &s.weights);
    for (long a = 0; a < b; a++)
        outputs_for(net, x + a * net->inputs * B, B, &s, common + a * total);
    free(memory);
    return 0;
}

/* ------------------------------------------------------------------ memory of Python's objects

   Python takes memory for small objects in arenas, each of which it maps for itself. These lie side by
   side in regions that the system may back with pages of 2 MB (arenas.py). The interpreter lets one thread
   at a time take an arena. */

#define LARGE_PAGE (2L << 20)
#define REGION (64L << 20)

#define MAPPED(bytes) \
    mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)

/* Returns memory for an arena, or 0 if there is none. */
void *engine_arena(void *context, size_t size) {
    static char *next, *end;
    (void)context;
    if (size > (size_t)(end - next)) {
        char *region = MAPPED(REGION + LARGE_PAGE);
        if (region == MAP_FAILED || size > REGION) { /* there may be room for one arena */
            region = MAPPED(size);
            return region == MAP_FAILED ? 0 : region;
        }
        next = (char *)(((uintptr_t)region + LARGE_PAGE - 1) & ~(uintptr_t)(LARGE_PAGE - 1));
        end = next + REGION;
#ifdef MADV_HUGEPAGE
        madvise(next, REGION, MADV_HUGEPAGE);
#endif
    }
    next += size;
    return next - size;
}

/* Numbers that a vector register holds. */
int engine_width(void) { return W; }
