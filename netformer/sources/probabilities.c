/* Logits of n classes to their probabilities; answered: the number of the most probable, the first of equals. */
static int probable(int n, const double *y, double *probabilities) {
    int most = 0;
    double sum = 0;
    for (int k = 1; k < n; k++) most = y[k] > y[most] ? k : most;
    for (int k = 0; k < n; k++) sum += probabilities[k] = exp(y[k] - y[most]);
    for (int k = 0; k < n; k++) probabilities[k] /= sum;
    return most;
}
