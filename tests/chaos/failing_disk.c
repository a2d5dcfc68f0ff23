/* Preloaded: the n-th write or sync of a file whose path holds "gpufn.db" fails, once or from then on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static long countdown = -1, seen = 0;
static int code = 0, forever = 0;

void disk_arm(long n, int error, int stays) { countdown = n; code = error; forever = stays; seen = 0; }
long disk_seen(void) { return seen; }

static int fails(int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  if (!strstr(path, "gpufn.db")) return 0;
  seen++;
  if (countdown < 0) return 0;
  if (countdown > 0) { countdown--; return 0; }
  if (!forever) countdown = -1;
  errno = code;
  return 1;
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *b, size_t n) { REAL(write); return fails(fd) ? -1 : real(fd, b, n); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) { REAL(pwrite); return fails(fd) ? -1 : real(fd, b, n, at); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t at) { REAL(pwrite64); return fails(fd) ? -1 : real(fd, b, n, at); }
int fsync(int fd) { REAL(fsync); return fails(fd) ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return fails(fd) ? -1 : real(fd); }
int ftruncate(int fd, off_t n) { REAL(ftruncate); return fails(fd) ? -1 : real(fd, n); }
int ftruncate64(int fd, off64_t n) { REAL(ftruncate64); return fails(fd) ? -1 : real(fd, n); }
