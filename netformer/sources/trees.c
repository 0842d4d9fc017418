/* y += the leaf of each tree: its number has a digit for each question, is an input above a cut. p: the first leaf,
 * returned: what comes behind the last; q: the first question */
static int trees(int p, int q, int count, int depth, const double *x, double *y) {
    for (int t = 0; t < count; t++, p += 1 << depth) {
        int leaf = 0;
        for (int i = 0; i < depth; i++, q++) leaf = 2 * leaf + (x[asked[q]] > cuts[q]);
        *y += WEIGHT(p + leaf);
    }
    return p;
}

