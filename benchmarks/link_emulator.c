/* Emulates the access links of hosts: the other ends of their TUN devices, for kernels without netem.

   A packet of host i to host j waits for i's uplink, travels, and waits for j's downlink:

       TUN i --> [uplink: rate, drop-tail queue] --> delay, loss --> [downlink: rate, drop-tail queue] --> TUN j

   Arguments: delay_us loss queue_ms tso base_address, then one fd:up:down a host (bit/s). Host k has address base + k.
   Standard input takes lines "host up down": new rates. Packets carry virtio-net headers: with tso a host hands over up to
   64 KiB at once, as to a network card, and rates count what a card would make of it; without, and so with loss, each
   packet is one of the wire's. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { HOSTS = 64, BATCH = 64, VNET = sizeof(struct virtio_net_hdr), PACKET = VNET + 65536 + 64, OTHER = 14 };
/* OTHER: the Ethernet header, as tc counts */

typedef struct packet { struct packet *next; uint64_t due; int target, size, wire; unsigned char *bytes; } packet;
typedef struct { packet *first, *last; } queue;
typedef struct { double rate; uint64_t free_at; } line;
typedef struct { int fd; line up, down; queue travelling, arriving; } host;

static host hosts[HOSTS];
static int count, queue_ms, tso;
static uint64_t delay, random_state = 88172645463325252ull;
static double loss;
static uint32_t base;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + t.tv_nsec;
}

static int lost(void) {
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return loss > 0 && (random_state >> 11) * (1.0 / 9007199254740992.0) < loss;
}

static void push(queue *q, packet *p) {
    p->next = NULL;
    if (q->first) q->last->next = p; else q->first = p;
    q->last = p;
}

static packet *pop(queue *q) {
    packet *p = q->first;
    q->first = p->next;
    return p;
}

static void drop(packet *p) { free(p->bytes); free(p); }

/* Take the line from `at` on; the time when the packet has passed, or 0 if the queue before the line is full. */
static uint64_t pass(line *l, uint64_t at, int wire) {
    if (l->free_at < at) l->free_at = at;
    if (l->free_at - at > queue_ms * 1000000ull) return 0;
    return l->free_at += (uint64_t)(wire * 8e9 / l->rate);
}

/* Bytes that a packet is on the wire: what is handed over at once is cut there, each part with headers of its own. */
static int wire_bytes(const unsigned char *bytes, int size) {
    struct virtio_net_hdr h;
    memcpy(&h, bytes, VNET);
    int length = size - VNET, ip = (bytes[VNET] & 15) * 4;
    if (h.gso_type == VIRTIO_NET_HDR_GSO_NONE || !h.gso_size) return length + OTHER;
    int headers = ip + (bytes[VNET + ip + 12] >> 4) * 4; /* TCP's with its options */
    int parts = (length - headers + h.gso_size - 1) / h.gso_size;
    return length + (parts - 1) * headers + parts * OTHER;
}

static void take(host *from) {
    static unsigned char room[PACKET];
    for (int i = 0; i < BATCH; i++) {
        int size = read(from->fd, room, PACKET);
        if (size < (int)VNET + 20) return;
        uint32_t address;
        memcpy(&address, room + VNET + 16, 4);
        uint32_t target = ntohl(address) - base;
        if (room[VNET] >> 4 != 4 || target >= (uint32_t)count) continue;
        int wire = wire_bytes(room, size);
        uint64_t due = pass(&from->up, now(), wire);
        if (!due || lost()) continue;
        packet *p = malloc(sizeof *p);
        *p = (packet){NULL, due + delay, target, size, wire, malloc(size)};
        memcpy(p->bytes, room, size);
        push(&from->travelling, p);
    }
}

/* The next packet to reach a downlink, of all hosts'. */
static host *nearest(void) {
    host *best = NULL;
    for (host *h = hosts; h < hosts + count; h++)
        if (h->travelling.first && (!best || h->travelling.first->due < best->travelling.first->due)) best = h;
    return best;
}

static void forward(uint64_t t) {
    for (host *h; (h = nearest()) && h->travelling.first->due <= t;) {
        packet *p = pop(&h->travelling);
        uint64_t due = pass(&hosts[p->target].down, p->due, p->wire);
        if (!due) { drop(p); continue; }
        p->due = due;
        push(&hosts[p->target].arriving, p);
    }
    for (host *h = hosts; h < hosts + count; h++)
        while (h->arriving.first && h->arriving.first->due <= t) {
            packet *p = pop(&h->arriving);
            if (write(h->fd, p->bytes, p->size) < 0) { /* as a packet lost */ }
            drop(p);
        }
}

static uint64_t next_due(void) {
    host *h = nearest();
    uint64_t due = h ? h->travelling.first->due : UINT64_MAX;
    for (host *o = hosts; o < hosts + count; o++)
        if (o->arriving.first && o->arriving.first->due < due) due = o->arriving.first->due;
    return due;
}

static void obey(void) {
    char text[4096];
    int size = read(0, text, sizeof text - 1), index;
    double up, down;
    if (size <= 0) exit(0);
    text[size] = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (sscanf(line, "%d %lf %lf", &index, &up, &down) == 3 && index >= 0 && index < count)
            hosts[index].up.rate = up, hosts[index].down.rate = down;
}

int main(int argc, char **argv) {
    if (argc < 7 || argc - 6 > HOSTS) return 2;
    delay = strtoull(argv[1], NULL, 10) * 1000, loss = atof(argv[2]), queue_ms = atoi(argv[3]), tso = atoi(argv[4]);
    base = strtoul(argv[5], NULL, 10);
    struct pollfd polled[HOSTS + 1];
    for (int i = 6; i < argc; i++, count++) {
        host *h = &hosts[count];
        if (sscanf(argv[i], "%d:%lf:%lf", &h->fd, &h->up.rate, &h->down.rate) != 3) return 2;
        if (ioctl(h->fd, TUNSETOFFLOAD, tso ? TUN_F_CSUM | TUN_F_TSO4 : TUN_F_CSUM)) return 3;
        fcntl(h->fd, F_SETFL, O_NONBLOCK);
        polled[count] = (struct pollfd){h->fd, POLLIN, 0};
    }
    polled[count] = (struct pollfd){0, POLLIN, 0};
    prctl(PR_SET_TIMERSLACK, 1);
    prctl(PR_SET_PDEATHSIG, 9);
    for (;;) {
        uint64_t t = now(), due;
        forward(t);
        due = next_due();
        t = due > (t = now()) ? due - t : 0;
        struct timespec wait = {t / 1000000000ull < 1 ? 0 : 1, t % 1000000000ull};
        ppoll(polled, count + 1, &wait, NULL);
        for (int i = 0; i < count; i++)
            if (polled[i].revents & POLLIN) take(&hosts[i]);
        if (polled[count].revents) obey();
    }
}
