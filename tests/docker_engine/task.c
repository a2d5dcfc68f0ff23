/* A task for tests of containers: `task work`, `task exit CODE`, `task polite`, `task stubborn`.

work      keeps its environment and its secrets as a result at 50 %, and ends at 100 %
exit      says something and ends with the code
polite    reports 10 % and runs; told to end it writes the file "saved" beside its result, takes a second, and ends
stubborn  the same, and does not end when it is told to */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static volatile sig_atomic_t told;

static void on_term(int number) { told = number; }

static FILE *in_results(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", getenv("NVCT_RESULTS_DIR"), name);
    FILE *file = fopen(path, "w");
    if (file == NULL) { perror(path); exit(9); }
    return file;
}

static void folder(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", getenv("NVCT_RESULTS_DIR"), name);
    if (mkdir(path, 0777) != 0) { perror(path); exit(9); }
}

static void report(int percent, const char *name) {
    char moment[64], fresh[512];
    time_t now = time(NULL);
    strftime(moment, sizeof moment, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    const char *goal = getenv("NVCT_PROGRESS_FILE_PATH");
    snprintf(fresh, sizeof fresh, "%s.tmp", goal);
    FILE *file = fopen(fresh, "w");
    if (file == NULL) { perror(fresh); exit(9); }
    fprintf(file, "{\"percentComplete\": %d, \"name\": \"%s\", \"lastUpdatedAt\": \"%s\"}", percent, name, moment);
    fclose(file);
    rename(fresh, goal);
}

static void work(void) {
    folder("half");
    FILE *file = in_results("half/env");
    for (char **one = environ; *one != NULL; one++) fprintf(file, "%s\n", *one);
    fclose(file);
    file = in_results("half/secrets");
    FILE *given = fopen("/var/secrets/secrets.json", "r");
    for (int c; given != NULL && (c = fgetc(given)) != EOF;) fputc(c, file);
    fclose(file);
    report(50, "half");
    sleep(2);
    folder("whole");
    fclose(in_results("whole/weights"));
    report(100, "whole");
    exit(0);
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "work";
    printf("begins: %s\n", what);
    fflush(stdout);
    if (strcmp(what, "exit") == 0) return count > 2 ? atoi(words[2]) : 0;
    if (strcmp(what, "work") == 0) work();
    signal(SIGTERM, on_term);
    report(10, "first");
    while (!told || strcmp(what, "stubborn") == 0) pause();
    printf("told to end\n");
    fflush(stdout);
    fclose(in_results("saved"));
    sleep(1);
    return 0;
}
