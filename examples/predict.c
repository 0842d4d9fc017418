/* Reads rows of comma-separated numbers on stdin, prints a prediction a row; further columns of a row are ignored.

       cc -O2 examples/predict.c exported/wide.c -lm -o predict
*/
#include <stdio.h>
#include <stdlib.h>

double predict(const double x[]);

int main(void) {
    static char line[1 << 16];
    static double x[1 << 12];
    while (fgets(line, sizeof line, stdin)) {
        char *at = line, *end;
        for (int i = 0; i < 1 << 12 && (x[i] = strtod(at, &end), end != at); i++) at = end + (*end == ',');
        printf("%.6g\n", predict(x));
    }
    return 0;
}
