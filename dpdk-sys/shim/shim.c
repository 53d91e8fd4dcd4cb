/*
 * What the dpdk port calls, as functions with plain arguments: DPDK's own are inline or take
 * structures whose layout changes from version to version. Errors are negative errno values.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_flow.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_version.h>

_Static_assert(RTE_PKTMBUF_HEADROOM == 128, "the headroom that Rust knows of");

/* Packets moved by one call at most. */
#define BURST_MAX 64

static int failure(void) { return rte_errno > 0 ? -rte_errno : -EIO; }

/* --- the library ------------------------------------------------------------------------- */

const char *nic_dpdk_version(void) { return rte_version(); }

typedef void (*log_line)(const char *text, size_t length);

static ssize_t write_log(void *cookie, const char *text, size_t length)
{
	log_line line = *(log_line *)cookie;
	line(text, length);
	return (ssize_t)length;
}

static log_line line_to;

int nic_dpdk_start(int count, char **arguments, log_line line)
{
	cookie_io_functions_t functions = { .write = write_log };
	line_to = line;
	FILE *stream = fopencookie(&line_to, "w", functions);
	if (stream != NULL) {
		setvbuf(stream, NULL, _IOLBF, 1024);
		rte_openlog_stream(stream);
	}
	int used = rte_eal_init(count, arguments);
	return used < 0 ? failure() : used;
}

int nic_dpdk_has_hugepages(void) { return rte_eal_has_hugepages(); }

/* Gives the calling thread a number, by which pools keep frames at hand for it. */
int nic_dpdk_register_thread(void)
{
	if (rte_lcore_id() != LCORE_ID_ANY)
		return 1;
	return rte_thread_register() < 0 ? failure() : 0;
}

void nic_dpdk_unregister_thread(void) { rte_thread_unregister(); }

/* --- devices ----------------------------------------------------------------------------- */

int nic_dpdk_find_device(const char *name)
{
	uint16_t port;
	int answer = rte_eth_dev_get_port_by_name(name, &port);
	return answer < 0 ? answer : port;
}

int nic_dpdk_add_device(const char *arguments)
{
	struct rte_dev_iterator iterator;
	uint16_t port;
	int found = -ENODEV;
	int answer = rte_dev_probe(arguments);
	if (answer < 0)
		return answer;
	RTE_ETH_FOREACH_MATCHING_DEV(port, arguments, &iterator) {
		found = port;
		rte_eth_iterator_cleanup(&iterator);
		break;
	}
	return found;
}

struct nic_dpdk_information {
	char driver[32];
	uint8_t mac[6];
	uint16_t mtu;
	uint16_t mtu_max;
	uint16_t rx_queues_max;
	uint16_t tx_queues_max;
	uint16_t rx_descriptors_max;
	uint16_t tx_descriptors_max;
	uint8_t can_scatter;
	uint8_t can_checksum_udp;
	uint8_t can_hash_udp;
	uint8_t reports_link;
};

int nic_dpdk_information(uint16_t port, struct nic_dpdk_information *information)
{
	struct rte_eth_dev_info info;
	struct rte_ether_addr mac;
	int answer = rte_eth_dev_info_get(port, &info);
	if (answer < 0)
		return answer;
	memset(information, 0, sizeof *information);
	snprintf(information->driver, sizeof information->driver, "%s", info.driver_name);
	if (rte_eth_macaddr_get(port, &mac) == 0)
		memcpy(information->mac, mac.addr_bytes, 6);
	rte_eth_dev_get_mtu(port, &information->mtu);
	information->mtu_max = info.max_mtu;
	information->rx_queues_max = info.max_rx_queues;
	information->tx_queues_max = info.max_tx_queues;
	information->rx_descriptors_max = info.rx_desc_lim.nb_max;
	information->tx_descriptors_max = info.tx_desc_lim.nb_max;
	information->can_scatter = !!(info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER);
	information->can_checksum_udp = !!(info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_UDP_CKSUM);
	information->can_hash_udp = !!(info.flow_type_rss_offloads & RTE_ETH_RSS_UDP);
	information->reports_link = !!(*info.dev_flags & RTE_ETH_DEV_INTR_LSC);
	return 0;
}

/* MTU zero: the device's own. */
int nic_dpdk_configure(uint16_t port, uint16_t queues, uint16_t mtu, int hash, int scatter,
		       int checksum)
{
	struct rte_eth_conf conf;
	struct rte_eth_dev_info info;
	int answer = rte_eth_dev_info_get(port, &info);
	if (answer < 0)
		return answer;
	memset(&conf, 0, sizeof conf);
	conf.rxmode.mtu = mtu;
	if (scatter)
		conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_SCATTER;
	if (checksum)
		conf.txmode.offloads |=
			RTE_ETH_TX_OFFLOAD_UDP_CKSUM &	info.tx_offload_capa;
	if (hash) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf = info.flow_type_rss_offloads &
						   (RTE_ETH_RSS_UDP | RTE_ETH_RSS_IP);
	}
	return rte_eth_dev_configure(port, queues, queues, &conf);
}

int nic_dpdk_adjust_descriptors(uint16_t port, uint16_t *rx, uint16_t *tx)
{
	return rte_eth_dev_adjust_nb_rx_tx_desc(port, rx, tx);
}

int nic_dpdk_setup_queue(uint16_t port, uint16_t queue, uint16_t rx, uint16_t tx,
			 uint16_t tx_free_threshold, struct rte_mempool *pool)
{
	struct rte_eth_dev_info info;
	struct rte_eth_txconf conf;
	int answer = rte_eth_dev_info_get(port, &info);
	if (answer < 0)
		return answer;
	answer = rte_eth_rx_queue_setup(port, queue, rx, rte_eth_dev_socket_id(port), NULL, pool);
	if (answer < 0)
		return answer;
	conf = info.default_txconf;
	/* Frames are counted by references: the driver must look at them one by one. */
	conf.offloads &= ~RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
	if (tx_free_threshold != 0)
		conf.tx_free_thresh = tx_free_threshold;
	return rte_eth_tx_queue_setup(port, queue, tx, rte_eth_dev_socket_id(port), &conf);
}

int nic_dpdk_start_device(uint16_t port)
{
	int answer = rte_eth_dev_start(port);
	if (answer < 0)
		return answer;
	/* Neighbours of IPv6 ask by multicast. Devices that cannot filter refuse both. */
	if (rte_eth_allmulticast_enable(port) < 0)
		rte_eth_promiscuous_enable(port);
	return 0;
}

int nic_dpdk_set_mtu(uint16_t port, uint16_t mtu) { return rte_eth_dev_set_mtu(port, mtu); }

uint16_t nic_dpdk_mtu(uint16_t port)
{
	uint16_t mtu = 0;
	rte_eth_dev_get_mtu(port, &mtu);
	return mtu;
}

int nic_dpdk_link_is_up(uint16_t port)
{
	struct rte_eth_link link;
	memset(&link, 0, sizeof link);
	int answer = rte_eth_link_get_nowait(port, &link);
	return answer < 0 ? answer : link.link_status == RTE_ETH_LINK_UP;
}

static int link_changed(uint16_t port, enum rte_eth_event_type event, void *up, void *answer)
{
	(void)event;
	(void)answer;
	__atomic_store_n((uint32_t *)up, nic_dpdk_link_is_up(port) != 0, __ATOMIC_RELAXED);
	return 0;
}

int nic_dpdk_watch_link(uint16_t port, uint32_t *up)
{
	return rte_eth_dev_callback_register(port, RTE_ETH_EVENT_INTR_LSC, link_changed, up);
}

int nic_dpdk_unwatch_link(uint16_t port, uint32_t *up)
{
	return rte_eth_dev_callback_unregister(port, RTE_ETH_EVENT_INTR_LSC, link_changed, up);
}

void nic_dpdk_remove_device(uint16_t port)
{
	struct rte_eth_dev_info info;
	int known = rte_eth_dev_info_get(port, &info) == 0;
	rte_eth_dev_stop(port);
	rte_eth_dev_close(port);
	if (known && info.device != NULL)
		rte_dev_remove(info.device);
}

/* Has UDP datagrams to `udp_port` arrive at `queue`. */
int nic_dpdk_steer(uint16_t port, uint16_t queue, int is_ipv4, uint16_t udp_port)
{
	struct rte_flow_attr attributes = { .ingress = 1 };
	struct rte_flow_item_udp udp = { .hdr.dst_port = rte_cpu_to_be_16(udp_port) };
	struct rte_flow_item_udp mask = { .hdr.dst_port = 0xffff };
	struct rte_flow_action_queue action = { .index = queue };
	struct rte_flow_item pattern[] = {
		{ .type = RTE_FLOW_ITEM_TYPE_ETH },
		{ .type = is_ipv4 ? RTE_FLOW_ITEM_TYPE_IPV4 : RTE_FLOW_ITEM_TYPE_IPV6 },
		{ .type = RTE_FLOW_ITEM_TYPE_UDP, .spec = &udp, .mask = &mask },
		{ .type = RTE_FLOW_ITEM_TYPE_END },
	};
	struct rte_flow_action actions[] = {
		{ .type = RTE_FLOW_ACTION_TYPE_QUEUE, .conf = &action },
		{ .type = RTE_FLOW_ACTION_TYPE_END },
	};
	struct rte_flow_error error;
	if (rte_flow_create(port, &attributes, pattern, actions, &error) == NULL)
		return failure();
	return 0;
}

/* --- frames ------------------------------------------------------------------------------ */

/* Room in each frame: DPDK's headroom, then `bytes`. */
struct rte_mempool *nic_dpdk_make_pool(const char *name, unsigned frames, unsigned cache,
				       uint16_t bytes, int *error)
{
	struct rte_mempool *pool = rte_pktmbuf_pool_create(
		name, frames, cache, 0, RTE_PKTMBUF_HEADROOM + bytes, SOCKET_ID_ANY);
	*error = pool == NULL ? failure() : 0;
	return pool;
}

void nic_dpdk_free_pool(struct rte_mempool *pool) { rte_mempool_free(pool); }

struct rte_mbuf *nic_dpdk_allocate(struct rte_mempool *pool) { return rte_pktmbuf_alloc(pool); }

/* Gives one reference back; the frame goes to its pool with the last. */
void nic_dpdk_release(struct rte_mbuf *frame) { rte_pktmbuf_free(frame); }

/* Where the frame's own bytes begin, after the headroom. */
uint8_t *nic_dpdk_bytes(struct rte_mbuf *frame)
{
	return (uint8_t *)frame->buf_addr + RTE_PKTMBUF_HEADROOM;
}

uint16_t nic_dpdk_references(const struct rte_mbuf *frame) { return rte_mbuf_refcnt_read(frame); }

/*
 * Prepares a frame to leave: `headers` bytes before its own bytes and `length` of these. Takes a
 * reference, which the driver gives back when the frame has left. `ip_bytes` other than zero: the
 * device computes UDP's checksum over IPv6, whose header lies after `headers - ip_bytes - 8`.
 */
void nic_dpdk_stage(struct rte_mbuf *frame, uint16_t headers, uint16_t length, uint16_t ip_bytes,
		    int add_reference)
{
	frame->data_off = RTE_PKTMBUF_HEADROOM - headers;
	frame->data_len = headers + length;
	frame->pkt_len = headers + length;
	frame->nb_segs = 1;
	frame->next = NULL;
	frame->ol_flags = 0;
	frame->tx_offload = 0;
	if (ip_bytes != 0) {
		frame->ol_flags = RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_UDP_CKSUM;
		frame->l2_len = headers - ip_bytes - 8;
		frame->l3_len = ip_bytes;
		frame->l4_len = 8;
	}
	if (add_reference)
		rte_mbuf_refcnt_update(frame, 1);
}

/* --- bursts ------------------------------------------------------------------------------ */

uint16_t nic_dpdk_transmit(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count,
			   int prepare)
{
	if (prepare && count != 0) {
		count = rte_eth_tx_prepare(port, queue, frames, count);
		if (count == 0)
			return UINT16_MAX;
	}
	return rte_eth_tx_burst(port, queue, frames, count);
}

/* Asks the driver for frames that have left. */
int nic_dpdk_clean(uint16_t port, uint16_t queue)
{
	return rte_eth_tx_done_cleanup(port, queue, 0);
}

struct nic_dpdk_view {
	struct rte_mbuf *frame;
	const uint8_t *bytes;
	uint16_t length;
	/* More than one: the bytes are only the first of several pieces. */
	uint16_t pieces;
	/* The tag that the device took off, or -1. */
	int32_t vlan;
};

uint16_t nic_dpdk_receive(uint16_t port, uint16_t queue, struct nic_dpdk_view *views,
			  uint16_t count)
{
	struct rte_mbuf *frames[BURST_MAX];
	uint16_t index, received;
	received = rte_eth_rx_burst(port, queue, frames, RTE_MIN(count, (uint16_t)BURST_MAX));
	for (index = 0; index < received; index++) {
		struct rte_mbuf *frame = frames[index];
		const uint8_t *bytes = rte_pktmbuf_mtod(frame, const uint8_t *);
		rte_prefetch0(bytes);
		views[index].frame = frame;
		views[index].bytes = bytes;
		views[index].length = rte_pktmbuf_data_len(frame);
		views[index].pieces = frame->nb_segs;
		views[index].vlan = frame->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED ?
					    frame->vlan_tci & 0xfff : -1;
	}
	return received;
}

void nic_dpdk_release_views(const struct nic_dpdk_view *views, unsigned count)
{
	struct rte_mbuf *frames[BURST_MAX];
	while (count != 0) {
		unsigned index, some = RTE_MIN(count, (unsigned)BURST_MAX);
		for (index = 0; index < some; index++)
			frames[index] = views[index].frame;
		rte_pktmbuf_free_bulk(frames, some);
		views += some;
		count -= some;
	}
}
