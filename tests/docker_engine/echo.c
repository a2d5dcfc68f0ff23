/* A tiny HTTP/1.1 server for the tests of the Docker backend: one request per connection, one at a time.
 *
 *   GET  /health      200
 *   POST /echo        the body again
 *   GET  /env         the environment, one variable a line
 *   GET  /args        the arguments, one a line
 *   GET  /status      /proc/self/status: capabilities, NoNewPrivs, pid
 *   GET  /write       writes /var/inf/from-instance
 *   GET  /log?N       writes N numbered lines to standard output
 *   GET  /exit?N      ends with exit code N
 *
 * Arguments: PORT [HEALTH_PORT]; also `exit N MESSAGE` (end at once) and `stubborn PORT` (ignore SIGTERM).
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

extern char **environ;
static char request[1 << 16], reply[1 << 16];

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = INADDR_ANY};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 16)) {
        perror("cannot listen");
        exit(3);
    }
    return fd;
}

static void add(const char *text) {
    size_t used = strlen(reply);
    snprintf(reply + used, sizeof reply - used, "%s\n", text);
}

static void add_file(const char *path) {
    FILE *file = fopen(path, "r");
    size_t read = file ? fread(reply, 1, sizeof reply - 1, file) : 0;
    reply[read] = 0;
    if (file) fclose(file);
}

static void answer(int client, int argc, char **argv) {
    size_t have = 0;
    ssize_t got;
    char *body = NULL, *length;
    long wanted = 0;
    while ((got = read(client, request + have, sizeof request - 1 - have)) > 0) {
        request[have += got] = 0;
        if (!body && (body = strstr(request, "\r\n\r\n"))) {
            length = strcasestr(request, "content-length:");
            wanted = length ? atol(length + 15) : 0;
            body += 4;
        }
        if (body && have - (body - request) >= (size_t)wanted) break;
    }
    if (!body) return;
    char *path = strchr(request, ' ') + 1, *query = strchr(path, '?');
    long number = query ? atol(query + 1) : 0;
    reply[0] = 0;
    if (!strncmp(path, "/echo", 5)) snprintf(reply, sizeof reply, "%s", body);
    else if (!strncmp(path, "/env", 4)) for (char **e = environ; *e; e++) add(*e);
    else if (!strncmp(path, "/args", 5)) for (int i = 1; i < argc; i++) add(argv[i]);
    else if (!strncmp(path, "/status", 7)) add_file("/proc/self/status");
    else if (!strncmp(path, "/write", 6)) {
        FILE *file = fopen("/var/inf/from-instance", "w");
        add(file && fputs("hello", file) >= 0 && !fclose(file) ? "written" : "refused");
    } else if (!strncmp(path, "/log", 4)) for (long i = 0; i < number; i++) printf("line %ld\n", i);
    dprintf(client, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s", strlen(reply), reply);
    if (!strncmp(path, "/exit", 5)) exit((int)number);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    int first = 1;
    if (argc > 3 && !strcmp(argv[1], "exit")) {
        fprintf(stderr, "%s\n", argv[3]);
        return atoi(argv[2]);
    }
    if (argc > 2 && !strcmp(argv[1], "stubborn")) signal(SIGTERM, SIG_IGN), first = 2;
    int port = argc > first ? atoi(argv[first]) : 8000;
    struct pollfd fds[2] = {{listen_on(port), POLLIN, 0}, {-1, POLLIN, 0}};
    if (argc > first + 1) fds[1].fd = listen_on(atoi(argv[first + 1]));
    printf("listening on %d\n", port);
    for (;;) {
        poll(fds, 2, -1);
        for (int i = 0; i < 2; i++) {
            if (fds[i].fd < 0 || !(fds[i].revents & POLLIN)) continue;
            int client = accept(fds[i].fd, NULL, NULL);
            answer(client, argc, argv);
            close(client);
        }
    }
}
