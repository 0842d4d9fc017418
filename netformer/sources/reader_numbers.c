/* Of reader.c, what a network for numbers answers with. */
/* == DECLARED */
double predict(const double x[]);
#if INTERVALS
double predict_quantile(const double x[], double q);
#else
#define predict_quantile(x, q) 0.0
#endif
/* == OPTION */
/* What follows --interval: the probability with which the target lies within. */
static double coverage_of(const char *s) {
    char *end;
    double found = s ? strtod(s, &end) : 0;
    if (!(found > 0 && found < 1) || *end) stop("--interval must be a number between 0 and 1, such as 0.9", "", "");
    if (!INTERVALS) stop("--interval is of the wide network alone, and this is another one", "", "");
    return found;
}

/* == STATE */
    double coverage = 0;
/* == CHOSEN */
        if (!strcmp(argv[i], "--interval")) coverage = coverage_of(argv[++i]);
/* == HEADER */
    puts(coverage > 0 ? TARGET ENDS : TARGET);
/* == ANSWER */
        printf("%.9g", predict(x));
        for (int end = -1; coverage > 0 && end < 2; end += 2) printf(",%.9g", predict_quantile(x, (1 + end * coverage) / 2));
        putchar('\n');
