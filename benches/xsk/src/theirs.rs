//! The job by the crate `xdp`, as its documentation has it.
#![allow(unsafe_code, reason = "its rings leave the frames' lifetimes to the caller")]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, Result};
use xdp::nic::NicIndex;
use xdp::packet::net_types::{EthHdr, EtherType, IpProto, Ipv4Hdr, UdpHdr};
use xdp::slab::{HeapSlab, Slab};
use xdp::socket::XdpSocketBuilder;
use xdp::umem::{FrameSize, UmemCfgBuilder};
use xdp::{Packet, RingConfigBuilder, Umem};

use crate::meter::Meter;
use crate::{Divert, ENTRIES, FRAMES};

/// Frames of one turn: as many as the kernel sends by one call. The crate does not raise that, and
/// does not go on by itself with what is left.
const BATCH: usize = 32;

fn config() -> RingConfigBuilder {
    RingConfigBuilder {
        rx_count: ENTRIES,
        tx_count: ENTRIES,
        fill_count: ENTRIES,
        completion_count: ENTRIES,
    }
}

/// "Later" is no error.
fn later(done: io::Result<usize>) -> Result<usize> {
    match done {
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS)) =>
        {
            Ok(0)
        }
        done => Ok(done?),
    }
}

/// As [`crate::swap`], with the crate's own views of headers.
fn swap(packet: &mut Packet) -> Result<bool> {
    let Ok(ethernet) = packet.read::<EthHdr>(0) else { return Ok(false) };
    let Ok(ip) = packet.read::<Ipv4Hdr>(EthHdr::LEN) else { return Ok(false) };
    let Ok(udp) = packet.read::<UdpHdr>(EthHdr::LEN + Ipv4Hdr::LEN) else { return Ok(false) };
    if ethernet.ether_type != EtherType::Ipv4 || ip.proto != IpProto::Udp {
        return Ok(false);
    }
    packet.write(0, ethernet.swapped())?;
    packet.write(EthHdr::LEN, ip.swapped())?;
    packet.write(EthHdr::LEN + Ipv4Hdr::LEN, udp.swapped())?;
    Ok(true)
}

pub(crate) fn reflect(interface: u32, ready: &AtomicBool, stop: &AtomicBool) -> Result<Meter> {
    let mut divert = Divert::attach(interface)?;
    let frame_size = FrameSize::TwoK;
    let umem = UmemCfgBuilder { frame_size, frame_count: FRAMES, ..Default::default() };
    let mut umem = Umem::map(umem.build()?)?;
    let mut builder = XdpSocketBuilder::new()?;
    let (mut rings, mut flags) = builder.build_wakable_rings(&umem, config().build()?)?;
    flags.force_copy();
    // SAFETY: the memory outlives the socket: both go at the end of this function.
    unsafe { rings.fill_ring.enqueue(&mut umem, ENTRIES as usize, false) }?;
    let socket = builder.bind(NicIndex::new(interface), 0, flags)?;
    divert.add(socket.raw_fd())?;
    ready.store(true, Relaxed);
    let mut rx = rings.rx_ring.take().context("an rx ring")?;
    let mut tx = rings.tx_ring.take().context("a tx ring")?;
    let (mut received, mut leaving) =
        (HeapSlab::with_capacity(BATCH), HeapSlab::with_capacity(BATCH));
    let mut meter = Meter::default();
    while !stop.load(Relaxed) {
        // SAFETY: packets go back to the memory they came from, or on to the tx ring, below.
        let count = unsafe { rx.recv(&umem, &mut received) };
        while let Some(mut packet) = received.pop_back() {
            let kept = if swap(&mut packet)? { leaving.push_front(packet) } else { Some(packet) };
            kept.into_iter().for_each(|packet| umem.free_packet(packet));
        }
        meter.calls += u64::from(!leaving.is_empty());
        let before = leaving.len();
        // SAFETY: they are this memory's.
        later(unsafe { tx.send(&mut leaving, true) })?;
        let sent = before - leaving.len();
        while let Some(packet) = leaving.pop_back() {
            umem.free_packet(packet);
        }
        rings.completion_ring.dequeue(&mut umem, ENTRIES as usize);
        // copy mode never asks to be woken for receiving
        // SAFETY: as above.
        later(unsafe { rings.fill_ring.enqueue(&mut umem, count, false) })?;
        meter.turn(sent)?;
    }
    Ok(meter)
}
