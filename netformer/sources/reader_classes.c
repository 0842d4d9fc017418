/* Of reader.c, what one for classes answers with. */
/* == DECLARED */
int predict(const double x[], double probabilities[]);
/* == OPTION */
static void print(const struct label *label) { fwrite(label->text, 1, label->size, stdout); }

/* == STATE */
    static double probabilities[CLASSES];
/* == CHOSEN */
        if (!strcmp(argv[i], "--interval"))
            stop("--interval is of numbers; this network writes the probabilities of classes", "", "");
/* == HEADER */
    for (int k = 0; k <= CLASSES; k++) print(&header_labels[k]), putchar(k < CLASSES ? ',' : '\n');
/* == ANSWER */
        print(&labels[predict(x, probabilities)]);
        for (int k = 0; k < CLASSES; k++) printf(",%.9g", probabilities[k]);
        putchar('\n');
