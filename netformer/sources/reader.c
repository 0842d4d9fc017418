#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct column {
    const char *name;
    char kind;        /* n: number, d: date, c: category */
    const char *form; /* of a number "," for a decimal comma; of a date that of its text beside ISO 8601, or seconds */
    int count;        /* of levels */
    const char *const *levels; /* of a category; of a number words that stand for a gap */
};

/* COLUMNS */

/* == DECLARED */

static const char *file = NULL;
static FILE *in;
static long row; /* of the table, 1 for the first one below the header */
static char *text, *header;
static size_t used, room, at;
static size_t *cells, n_cells, room_cells;
static int spaced; /* whether names in the header begin with blanks, which are then no part of any cell */

static void shown(const char *s, int most) { /* on one line */
    for (; *s && most; s++, most--) fputc((unsigned char)*s < ' ' || *s == 127 ? ' ' : *s, stderr);
}

/* Ends the program with one line: what, the first % a name, the second one a cell. */
static void stop(const char *what, const char *name, const char *cell) {
    shown(file, -1);
    fprintf(stderr, row ? ", row %ld: " : ": ", row);
    for (int seen = 0; *what; what++) {
        if (*what != '%') fputc(*what, stderr);
        else if (seen++) shown(cell, 40);
        else shown(name, -1);
    }
    fputc('\n', stderr);
    exit(2);
}

static void *more(void *old, size_t size) {
    void *grown = realloc(old, size);
    if (!grown) stop("out of memory", "", "");
    return grown;
}

static void put(int c) {
    if (used == room) text = more(text, room = 2 * room + 4096);
    text[used++] = (char)c;
}

static int next(void) { return header && header[at] ? (unsigned char)header[at++] : getc(in); }

/* Reads the line of the header ahead, and answers which separator it has most often outside quotes. */
static int separator(void) {
    static const char known[] = ",;\t|";
    long count[] = {0, 0, 0, 0};
    int quoted = 0, best = 0;
    for (int c = getc(in); c != EOF; c = getc(in)) {
        const char *found = c ? strchr(known, c) : NULL;
        put(c);
        quoted ^= c == '"';
        if (found && !quoted) count[found - known]++;
        if (c == '\n' && !quoted) break;
    }
    put(0);
    header = text;
    text = NULL;
    used = room = 0;
    at = strncmp(header, "\357\273\277", 3) ? 0 : 3; /* a byte order mark */
    for (int i = 1; i < 4; i++) best = count[i] > count[best] ? i : best;
    return known[best];
}

static void cell(void) {
    if (n_cells == room_cells) cells = more(cells, (room_cells = 2 * room_cells + 64) * sizeof *cells);
    cells[n_cells++] = used;
}

/* The cells of the next row that is not blank; 0 at the end. */
static int read_row(int comma) {
    int c, quoted = 0;
again:
    if ((c = next()) == EOF) return 0;
    used = n_cells = 0;
    for (cell();; c = next()) {
        if (quoted) {
            if (c == EOF) stop("a quote is never closed", "", "");
            if (c == '"' && (c = next()) != '"') quoted = 0;
            else {
                put(c);
                continue;
            }
        } else if (c == '"' && used == cells[n_cells - 1]) {
            quoted = 1;
            continue;
        }
        if (c == ' ' && used == cells[n_cells - 1]) {
            spaced |= !row && n_cells > 1;
            if (spaced) continue;
        }
        if (c == '\r') continue;
        if (c != comma && c != '\n' && c != EOF) {
            put(c);
            continue;
        }
        put(0);
        if (c != comma && n_cells == 1 && !*text) goto again;
        if (c != comma) return 1;
        cell();
    }
}

static int same(const char *a, const char *b) {
    while (*a && tolower((unsigned char)*a) == *b) a++, b++;
    return !*a && !*b;
}

static int is_gap(const char *s) {
    static const char *const gaps[] = {"", "?", "-", "--", ".", "na", "n/a", "#n/a", "nan", "none", "null", "<na>", "nat"};
    for (size_t i = 0; i < sizeof gaps / sizeof *gaps; i++)
        if (same(s, gaps[i])) return 1;
    return 0;
}

static const char digits[] = "0123456789";

/* Where the whole number that s begins with ends, if marks stand between its thousands; NULL if none do. */
static const char *thousands(const char *s, char mark) {
    s += *s == '-' || *s == '+';
    size_t n = strspn(s, digits);
    if (n < 1 || n > 3 || *s == '0' || s[n] != mark) return NULL;
    for (s += n; *s == mark; s += 4)
        if (strspn(s + 1, digits) != 3) return NULL;
    return !*s || *s == (mark == ',' ? '.' : ',') ? s : NULL;
}

/* Bytes of the white space that s begins with, in UTF-8: what Python strips. */
static size_t space(const char *s) {
    static const char *const wide[] = {"\302\205",     "\302\240",     "\341\232\200", "\342\200\250", "\342\200\251",
                                       "\342\200\257", "\342\201\237", "\343\200\200"};
    if (isspace((unsigned char)*s) || (*s >= 28 && *s <= 31)) return 1;
    if (!strncmp(s, "\342\200", 2) && (unsigned char)s[2] >= 128 && (unsigned char)s[2] <= 138) return 3;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        if (!strncmp(s, wide[i], strlen(wide[i]))) return strlen(wide[i]);
    return 0;
}

/* Bytes of the name of a currency that s begins with. */
static size_t currency(const char *s) {
    static const char *const names[] = {"usd", "eur", "gbp", "chf"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t k = 0;
        while (k < 3 && tolower((unsigned char)s[k]) == names[i][k]) k++;
        if (k == 3) return 3;
    }
    return 0;
}

/* A number without what people put around it, such as $ and %; 0 if it is none. */
static int number(const char *s, const char *form, double *value) {
    static const char *const dress[] = {"'", "$", "%", "\302\243", "\302\245", "\342\202\254", "\342\202\271"};
    const char *const start = s;
    char plain[64];
    size_t n = 0;
    while (*s) {
        size_t skip = space(s), name = currency(s);
        if (name && (s == start || !s[name])) skip = name;
        for (size_t i = 0; i < sizeof dress / sizeof *dress; i++)
            if (!strncmp(s, dress[i], strlen(dress[i]))) skip = strlen(dress[i]);
        if (!skip && n == sizeof plain - 2) return 0;
        if (!skip) plain[n++] = *s;
        s += skip ? skip : 1;
    }
    plain[n] = 0;
    if (n > 1 && *plain == '(' && plain[n - 1] == ')') *plain = '-', plain[n - 1] = 0;
    char mark = *form == ',' ? '.' : ',', *end;
    const char *grouped = thousands(plain, mark);
    int kept = 0;
    for (const char *p = plain; *p; p++)
        if (!grouped || p >= grouped || *p != mark) plain[kept++] = *form == ',' && *p == ',' ? '.' : *p;
    plain[kept] = 0;
    *value = strtod(plain, &end);
    return kept && !*end && strspn(plain, "0123456789+-.eE") == (size_t)kept && isfinite(*value);
}

static int whole(const char **s, int most) {
    int value = -1;
    for (; most && isdigit((unsigned char)**s); most--, ++*s) value = (value < 0 ? 0 : 10 * value) + **s - '0';
    return value;
}

static int month(const char **s, int full) {
    static const char *const names[] = {"january", "february", "march",     "april",   "may",      "june",
                                        "july",    "august",   "september", "october", "november", "december"};
    for (int i = 0; i < 12; i++) {
        size_t n = full ? strlen(names[i]) : 3, k = 0;
        while (k < n && tolower((unsigned char)(*s)[k]) == names[i][k]) k++;
        if (k == n) return *s += n, i + 1;
    }
    return -1;
}

static long days(long y, int m, int d) { /* since 1970-01-01, in the Gregorian calendar */
    y -= m <= 2;
    long era = (y >= 0 ? y : y - 399) / 400, of_era = y - era * 400;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 719469;
}

/* Reads what form says, and answers where it ends; NULL if s is not of that form. slashes: also in place of its -. */
static const char *parsed(const char *s, const char *form, int slashes, double *seconds) {
    int y = 1970, m = 1, d = 1, hour = 0, minute = 0, second = 0;
    for (; *form; form++) {
        if (*form != '%') {
            if (*s != *form && !(slashes && *form == '-' && *s == '/')) return NULL;
            s++;
            continue;
        }
        switch (*++form) {
        case 'Y': y = strspn(s, digits) < 4 ? -1 : whole(&s, 4); break;
        case 'y': y = whole(&s, 2), y += y < 0 ? 0 : y < 69 ? 2000 : 1900; break;
        case 'm': m = whole(&s, 2); break;
        case 'b': m = month(&s, 0); break;
        case 'B': m = month(&s, 1); break;
        case 'd': d = whole(&s, 2); break;
        case 'H': hour = whole(&s, 2); break;
        case 'M': minute = whole(&s, 2); break;
        default: second = whole(&s, 2); break;
        }
    }
    if (y < 1 || m < 1 || m > 12 || d < 1 || d > days(y + m / 12, m % 12 + 1, 1) - days(y, m, 1)) return NULL;
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) return NULL;
    *seconds = 86400.0 * (double)days(y, m, d) + 3600 * hour + 60 * minute + second;
    return s;
}

static int date(const char *s, const char *form, double *seconds) {
    static const char *const iso[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M",
                                      "%Y-%m-%dT%H",       "%Y-%m-%d %H",       "%Y-%m-%d",       "%Y-%m",
                                      "%Y%m%d",            "%Y"};
    const char *end;
    if (*form && (end = parsed(s, form, 0, seconds)) && !*end) return 1;
    for (size_t i = 0; i < sizeof iso / sizeof *iso; i++) {
        if (!(end = parsed(s, iso[i], 1, seconds))) continue;
        if (i < 2 && *end == '.') {
            char *stop_at;
            *seconds += strtod(end, &stop_at);
            end = stop_at;
        }
        if (i < 4 && (*end == 'Z' || *end == 'z')) end++;
        else if (i < 4 && (*end == '+' || *end == '-')) {
            int sign = *end++ == '+' ? 1 : -1, hours = whole(&end, 2);
            end += *end == ':';
            int minutes = whole(&end, 2);
            *seconds -= sign * (3600.0 * hours + 60.0 * (minutes < 0 ? 0 : minutes));
        }
        if (!*end) return 1;
    }
    return !*form && number(s, "", seconds);
}

static double level(const char *s, const struct column *column) {
    int gap = -1;
    for (int i = 0; i < column->count; i++) {
        if (!strcmp(s, column->levels[i])) return i;
        if (!*column->levels[i]) gap = i;
    }
    return is_gap(s) ? gap : -1;
}

static char *stripped(char *s) {
    while (space(s)) s += space(s);
    size_t n = strlen(s), k = 1;
    for (; k <= 3 && k <= n; k++)
        if (space(s + n - k) == k) s[n -= k] = 0, k = 0;
    return s;
}

static double value(char *s, const struct column *column) {
    double x = 0;
    s = stripped(s);
    if (column->kind == 'c') return level(s, column);
    if (is_gap(s) || (column->kind == 'n' && level(s, column) >= 0)) return NAN;
    if (column->kind == 'd') {
        if (!date(s, column->form, &x)) stop("column \"%\" must hold a date, found \"%\"", column->name, s);
    } else if (same(s, "true") || same(s, "false")) return same(s, "true");
    else if (!number(s, column->form, &x)) stop("column \"%\" must hold a number, found \"%\"", column->name, s);
    return x;
}

/* == OPTION */
int main(int argc, char **argv) {
    static size_t place[N];
    static double x[N];
/* == STATE */
    const char *own = file = argv[0];
    for (int i = 1; i < argc; i++) {
/* == CHOSEN */
        else if (file == own) file = argv[i];
        else stop("give one file, or none to read stdin", "", "");
    }
    in = file == own ? stdin : fopen(file, "r");
    if (file == own) file = "stdin";
    if (!in) stop("no such file", "", "");
    int comma = separator();
    if (!read_row(comma)) stop("must have a row of column names", "", "");
    size_t width = n_cells;
    for (size_t k = 0; k < width && spaced; k++) cells[k] = (size_t)(stripped(text + cells[k]) - text);
    for (int i = 0; i < N; i++) {
        place[i] = width;
        for (size_t k = 0; k < width; k++) {
            if (strcmp(text + cells[k], columns[i].name)) continue;
            if (place[i] < width) stop("column \"%\" is there twice", columns[i].name, "");
            place[i] = k;
        }
        if (place[i] == width) stop("column \"%\" is missing; the first one there is \"%\"", columns[i].name, text);
    }
/* == HEADER */
    while (++row, read_row(comma)) {
        if (n_cells != width) stop("the row has more or fewer cells than the header", "", "");
        for (int i = 0; i < N; i++) x[i] = value(text + cells[place[i]], &columns[i]);
/* == ANSWER */
    }
    row = 0;
    if (fflush(stdout)) stop("the predictions cannot be written", "", "");
    return 0;
}
