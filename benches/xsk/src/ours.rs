//! The job by Turnwire's rings.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::Result;
use dataplane::link::xsk::{Copying, FrameSize, Options, Queue, Umem};
use turnwire_tests::cable::FAR_NAME;

use crate::meter::Meter;
use crate::{Divert, ENTRIES, FRAMES, swap};

/// Frames of one turn.
const BATCH: usize = 64;

pub(crate) fn reflect(interface: u32, ready: &AtomicBool, stop: &AtomicBool) -> Result<Meter> {
    let mut divert = Divert::attach(interface)?;
    let mut umem = Umem::new(FRAMES, FrameSize::Bytes2048)?;
    let options = Options { copying: Copying::Copy, entries: ENTRIES, busy_poll: None };
    let mut queue = Queue::open(FAR_NAME, 0, &mut umem, &options)?;
    divert.add(queue.as_fd().as_raw_fd())?;
    ready.store(true, Relaxed);
    let mut frames = Vec::with_capacity(BATCH);
    let mut meter = Meter::default();
    while !stop.load(Relaxed) {
        queue.receive(&mut umem, &mut frames, BATCH);
        for mut frame in frames.drain(..) {
            let ours = swap(umem.bytes_mut(&mut frame));
            let sent = if ours { queue.transmit(&mut umem, frame) } else { Err(frame) };
            if let Err(frame) = sent {
                umem.give(frame);
            }
        }
        queue.flush()?;
        queue.reclaim(&mut umem);
        queue.refill(&mut umem);
        meter.turn((queue.counts().transmitted - meter.reflected) as usize)?;
    }
    let counts = queue.counts();
    meter.calls = counts.tx_wakeups + counts.rx_wakeups;
    Ok(meter)
}
