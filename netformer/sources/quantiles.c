/* y += weights . x; w: the first of these, returned: the first of the next ones */
static const float *far(const float *w, int n, const double *x, double *y) {
    for (int i = 0; i < n; i++) *y += *w++ * x[i];
    return w;
}

/* PREDICT */

void predict(const double x[], double y[]) {
    double log_scales[TARGETS] = {0};
    outputs(x, y, log_scales);
}

/* Quantile q of each target, 0 < q < 1: a new row lies below it with probability q, and between those of 0.05 and 0.95
 * with probability 0.9. */
void predict_quantile(const double x[], double q, double y[]) {
    double log_scales[TARGETS], a = log(q / (1 - q));
    int i = 1, last = sizeof logits / sizeof *logits - 1;
    for (int k = 0; k < TARGETS; k++) log_scales[k] = scales[3 * k];
    outputs(x, y, log_scales);
    while (i < last && logits[i] <= a) i++;
    for (int k = 0; k < TARGETS; k++) {
        const double *s = scores + k * (last + 1), *own = scales + 3 * k;
        double score = s[i - 1] + (s[i] - s[i - 1]) * (a - logits[i - 1]) / (logits[i] - logits[i - 1]);
        double size = log_scales[k];
        if (a < logits[0]) score = s[0] * (s[0] < 0 ? a / logits[0] : 1);
        if (a > logits[last]) score = s[last] * (s[last] > 0 ? a / logits[last] : 1);
        size = size < own[1] ? own[1] : size > own[2] ? own[2] : size;
        y[k] += exp(size) * score * units[2 * k];
    }
}
