/*
 * Makes all files of a process read-only while the byte in a mapped file is 1, open ones too: as a disk that the system has
 * made read-only, but it can be undone without a repair. While it is 2, files can be made, but no block of them written.
 * Calls of the C library are avoided, since workerd's allocator may be starting.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static const volatile char *flag;

static int state_of_files(void) {
  if (flag == NULL) {
    const char *path = getenv("READ_ONLY_FILES");
    if (path == NULL) return 0;
    long file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    void *mapped = (void *)syscall(SYS_mmap, NULL, 1, PROT_READ, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (mapped == MAP_FAILED) return 0;
    flag = mapped;
  }
  return *flag;
}

static int is_read_only(void) { return state_of_files() == 1; }

static int is_broken(void) { return state_of_files() != 0; }

static long refuse(void) {
  errno = state_of_files() == 2 ? EIO : EROFS;
  return -1;
}

/* A device is no file of the disk. Under /dev/shm are files in memory, where a whole run of the tests keeps its folders. */
static int is_device(const char *path) {
  return strncmp(path, "/dev/", 5) == 0 && strncmp(path, "/dev/shm/", 9) != 0;
}

static int open_at(int folder, const char *path, int flags, unsigned mode) {
  int writes = (flags & O_ACCMODE) != O_RDONLY && !is_device(path);
  if (writes && is_read_only()) return (int)refuse();
  return (int)syscall(SYS_openat, folder, path, flags, mode);
}

#define MODE                                      \
  unsigned mode = 0;                              \
  if ((flags & (O_CREAT | __O_TMPFILE)) != 0) {   \
    va_list rest;                                 \
    va_start(rest, flags);                        \
    mode = va_arg(rest, unsigned);                \
    va_end(rest);                                 \
  }

int open(const char *path, int flags, ...) { MODE return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return open_at(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE return open_at(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE return open_at(folder, path, flags | O_LARGEFILE, mode); }

ssize_t pwrite(int file, const void *bytes, size_t size, off_t at) {
  return is_broken() ? refuse() : syscall(SYS_pwrite64, file, bytes, size, at);
}

ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t at) {
  return is_broken() ? refuse() : syscall(SYS_pwrite64, file, bytes, size, at);
}

int ftruncate(int file, off_t size) { return is_broken() ? (int)refuse() : (int)syscall(SYS_ftruncate, file, size); }
int ftruncate64(int file, off64_t size) { return is_broken() ? (int)refuse() : (int)syscall(SYS_ftruncate, file, size); }
