/* Every field of every group, once: F(group, field) a number, S(group, field, n) a state with n
 * values, T(group, field, n) n bytes of text, U(group, field) a UUID; between G and E, or between G2(group, first) and E for
 * a second copy. */

#ifdef FIELDS_OF_DOM
#if DOMSTAT_REVISION >= 1
G(identity)
F(identity, domid)
U(identity, uuid)
T(identity, name, 128)
F(identity, created_ns)
E(identity)
G(memory)
F(memory, current_bytes)
F(memory, maximum_bytes)
F(memory, rss_bytes)
F(memory, unused_bytes)
F(memory, available_bytes)
F(memory, usable_bytes)
F(memory, swap_in_bytes)
F(memory, swap_out_bytes)
F(memory, major_faults)
F(memory, minor_faults)
E(memory)
#endif
#if DOMSTAT_REVISION >= 2
G(cpu)
F(cpu, time_ns)
F(cpu, user_ns)
F(cpu, system_ns)
F(cpu, vcpus_ns)
E(cpu)
#endif
#endif
#ifdef FIELDS_OF_VCPU
#if DOMSTAT_REVISION >= 1
G(runstate)
S(runstate, state, 4)
F(runstate, state_entry_ns)
F(runstate, running_ns)
F(runstate, runnable_ns)
F(runstate, blocked_ns)
F(runstate, offline_ns)
E(runstate)
#endif
#if DOMSTAT_REVISION >= 2
G(sched)
F(sched, time_ns)
F(sched, wait_ns)
F(sched, delay_ns)
F(sched, timeslices)
E(sched)
G(exits)
F(exits, exits)
F(exits, io_exits)
F(exits, mmio_exits)
F(exits, halt_exits)
F(exits, irq_exits)
F(exits, signal_exits)
F(exits, hypercalls)
F(exits, insn_emulation)
E(exits)
#endif
#if DOMSTAT_REVISION >= 4
G2(runstate_twin, runstate)
S(runstate_twin, state, 4)
F(runstate_twin, state_entry_ns)
F(runstate_twin, running_ns)
F(runstate_twin, runnable_ns)
F(runstate_twin, blocked_ns)
F(runstate_twin, offline_ns)
E(runstate_twin)
G2(sched_twin, sched)
F(sched_twin, time_ns)
F(sched_twin, wait_ns)
F(sched_twin, delay_ns)
F(sched_twin, timeslices)
E(sched_twin)
#endif
#endif
#ifdef FIELDS_OF_BLK
#if DOMSTAT_REVISION >= 2
G(identity)
T(identity, name, 128)
E(identity)
G(io)
F(io, rd_req)
F(io, rd_bytes)
F(io, wr_req)
F(io, wr_bytes)
F(io, errs)
F(io, in_flight)
E(io)
#endif
#if DOMSTAT_REVISION >= 3
G(io_times)
F(io_times, rd_total_ns)
F(io_times, wr_total_ns)
F(io_times, flush_req)
F(io_times, flush_total_ns)
E(io_times)
G(extent)
F(extent, allocation_bytes)
F(extent, capacity_bytes)
F(extent, physical_bytes)
F(extent, threshold_bytes)
F(extent, threshold_events)
F(extent, threshold_excess_bytes)
E(extent)
G(vbd)
F(vbd, oo_req)
F(vbd, ds_req)
F(vbd, f_req)
F(vbd, devid)
E(vbd)
G(job)
S(job, kind, 7)
S(job, state, 8)
F(job, cur_bytes)
F(job, end_bytes)
F(job, limit_bytes)
F(job, ended)
E(job)
#endif
#if DOMSTAT_REVISION >= 4
G2(io_twin, io)
F(io_twin, rd_req)
F(io_twin, rd_bytes)
F(io_twin, wr_req)
F(io_twin, wr_bytes)
F(io_twin, errs)
F(io_twin, in_flight)
E(io_twin)
#endif
#endif
#ifdef FIELDS_OF_NET
#if DOMSTAT_REVISION >= 4
G(identity)
T(identity, name, 128)
E(identity)
G(io)
F(io, rx_bytes)
F(io, rx_packets)
F(io, rx_errs)
F(io, rx_drop)
F(io, tx_bytes)
F(io, tx_packets)
F(io, tx_errs)
F(io, tx_drop)
E(io)
#endif
#endif
