// Datagrams: answers a second.  One JSON line.
// datagrams echo ADDR PORT                        send back whatever comes
// datagrams ask ADDR PORT SECS WINDOW FILE        FILE's bytes, WINDOW of them under way at any time
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}
static int echo(int s) {
  char b[4096];
  struct sockaddr_in from;
  for (;;) {
    socklen_t l = sizeof from;
    ssize_t r = recvfrom(s, b, sizeof b, 0, (void *)&from, &l);
    if (r >= 0)
      sendto(s, b, r, 0, (void *)&from, l);
  }
}
int main(int c, char **v) {
  if (c < 4)
    return 64;
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(v[3]))};
  inet_pton(AF_INET, v[2], &a.sin_addr);
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  if (v[1][0] == 'e') {
    if (bind(s, (void *)&a, sizeof a)) {
      perror("bind");
      return 1;
    }
    return echo(s);
  }
  if (c < 7 || connect(s, (void *)&a, sizeof a))
    return 64;
  double secs = atof(v[4]);
  int window = atoi(v[5]);
  char q[2048], b[4096];
  FILE *f = fopen(v[6], "rb");
  size_t n = fread(q, 1, sizeof q, f);
  long done = 0, errs = 0, late = 0;
  double t0 = now(), end = t0 + secs;
  for (int i = 0; i < window; i++)
    if (send(s, q, n, 0) < 0)
      errs++;
  while (now() < end) {
    struct pollfd p = {.fd = s, .events = POLLIN};
    if (poll(&p, 1, 200) == 0) { // all under way got lost: begin anew
      late += window;
      for (int i = 0; i < window; i++)
        if (send(s, q, n, 0) < 0)
          errs++;
      continue;
    }
    ssize_t r = recv(s, b, sizeof b, 0);
    if (r < 0)
      errs++;
    else
      done++;
    if (send(s, q, n, 0) < 0)
      errs++;
    if (errs > 1000)
      break;
  }
  printf("{\"done\":%ld,\"per_s\":%.1f,\"errs\":%ld,\"lost\":%ld}\n", done, done / (now() - t0), errs, late);
  return 0;
}
