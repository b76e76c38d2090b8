/*
 * How much CPU time a domain uses while one watches, in nanoseconds: xl prints
 * tenths of seconds, too coarse to see an idle guest tick.
 *
 *   cpu-time DOMID SECONDS
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xenctrl.h>

static uint64_t used(xc_interface *xc, uint32_t domid)
{
    xc_domaininfo_t info;

    if (xc_domain_getinfolist(xc, domid, 1, &info) != 1 || info.domain != domid) {
        fprintf(stderr, "cpu-time: there is no domain %u\n", domid);
        exit(1);
    }
    return info.cpu_time;
}

int main(int argc, char **argv)
{
    xc_interface *xc;
    uint64_t before;
    uint32_t domid;

    if (argc != 3) {
        fprintf(stderr, "usage: cpu-time DOMID SECONDS\n");
        return 2;
    }
    xc = xc_interface_open(NULL, NULL, 0);
    if (!xc) {
        fprintf(stderr, "cpu-time: this is not dom0\n");
        return 1;
    }
    domid = atoi(argv[1]);
    before = used(xc, domid);
    sleep(atoi(argv[2]));
    printf("%" PRIu64 "\n", used(xc, domid) - before);
    return 0;
}
