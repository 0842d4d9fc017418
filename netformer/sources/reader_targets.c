/* Of reader.c, what a network for several targets answers with. */
/* == DECLARED */
void predict(const double x[], double y[]);
#if INTERVALS
void predict_quantile(const double x[], double q, double y[]);
#else
#define predict_quantile(x, q, y) (void)(q)
#endif
/* == OPTION */
/* What follows --interval: the probability with which each target lies within. */
static double coverage_of(const char *s) {
    char *end;
    double found = s ? strtod(s, &end) : 0;
    if (!(found > 0 && found < 1) || *end) stop("--interval must be a number between 0 and 1, such as 0.9", "", "");
    if (!INTERVALS) stop("--interval is of the wide network alone, and this is another one", "", "");
    return found;
}

/* == STATE */
    double coverage = 0, y[3][TARGETS] = {{0}};
/* == CHOSEN */
        if (!strcmp(argv[i], "--interval")) coverage = coverage_of(argv[++i]);
/* == HEADER */
    for (int k = 0; k < TARGETS; k++) printf("%s%s%s", k ? "," : "", targets[k], coverage > 0 ? ends[k] : "");
    putchar('\n');
/* == ANSWER */
        predict(x, y[1]);
        for (int end = 0; coverage > 0 && end < 3; end += 2) predict_quantile(x, (1 + (end - 1) * coverage) / 2, y[end]);
        for (int k = 0; k < TARGETS; k++) {
            printf("%s%.9g", k ? "," : "", y[1][k]);
            if (coverage > 0) printf(",%.9g,%.9g", y[0][k], y[2][k]);
        }
        putchar('\n');
