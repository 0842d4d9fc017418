/* y += weights . x; p: the first of its weights, returned: the first of the next ones */
static int dot(int p, int n, const double *x, double *y) {
    for (int i = 0; i < n; i++) *y += WEIGHT(p++) * x[i];
    return p;
}

/* h = activation(bias + weights . h), a unit after the other: its bias, its weights */
static int layer(int p, int kind, int inputs, int units, const double *x, double *h) {
    for (int u = 0; u < units; u++) {
        double a = WEIGHT(p++);
        p = dot(p, inputs, x, &a);
        switch (kind) {
KINDS
        default: break;
        }
        h[u] = a;
    }
    return p;
}

