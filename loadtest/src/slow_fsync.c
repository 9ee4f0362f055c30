/* Preloaded into a server, it delays each fsync(2) and fdatasync(2) by FSYNC_DELAY_MS milliseconds. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static int delayed(const char *name, int fd) {
  const char *text = getenv("FSYNC_DELAY_MS");
  long ms = text ? atol(text) : 0;
  struct timespec rest = {ms / 1000, ms % 1000 * 1000000};
  while (clock_nanosleep(CLOCK_MONOTONIC, 0, &rest, &rest) == EINTR) {
  }
  int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
  if (!next) {
    errno = ENOSYS;
    return -1;
  }
  return next(fd);
}

int fsync(int fd) { return delayed("fsync", fd); }
int fdatasync(int fd) { return delayed("fdatasync", fd); }
