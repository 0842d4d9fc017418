/* y += weights . x; w: the first of these, returned: the first of the next ones */
static const float *far(const float *w, int n, const double *x, double *y) {
    for (int i = 0; i < n; i++) *y += *w++ * x[i];
    return w;
}

/* PREDICT */

double predict(const double x[]) {
    double log_scale = 0;
    return outputs(x, &log_scale);
}

/* Quantile q of the target, 0 < q < 1: a new row lies below it with probability q, and between those of 0.05 and 0.95
 * with probability 0.9. */
double predict_quantile(const double x[], double q) {
    double s = scales[0], y = outputs(x, &s), a = log(q / (1 - q)), score;
    int i = 1, last = sizeof logits / sizeof *logits - 1;
    while (i < last && logits[i] <= a) i++;
    score = scores[i - 1] + (scores[i] - scores[i - 1]) * (a - logits[i - 1]) / (logits[i] - logits[i - 1]);
    if (a < logits[0]) score = scores[0] * (scores[0] < 0 ? a / logits[0] : 1);
    if (a > logits[last]) score = scores[last] * (scores[last] > 0 ? a / logits[last] : 1);
    s = s < scales[1] ? scales[1] : s > scales[2] ? scales[2] : s;
    return y + exp(s) * score * scales[3];
}
