//! What a reflector does in which time, from the first frame on: before that it waits for the generator,
//! and spins.
#![allow(unsafe_code, reason = "clock_gettime(2) writes one structure")]

use std::time::Duration;

use anyhow::{Result, ensure};
use traffic::sys;

/// How far readings of the clocks are apart: a turn takes a twentieth of it.
const READING: Duration = Duration::from_millis(1);

/// The clocks when so many frames had been reflected.
#[derive(Clone, Copy)]
struct Reading {
    frames: u64,
    wall: Duration,
    cpu: Duration,
}

/// Counts of one reflector.
#[derive(Default)]
pub(crate) struct Meter {
    /// Frames that were sent back.
    pub(crate) reflected: u64,
    /// System calls of all that.
    pub(crate) calls: u64,
    first: Option<Reading>,
    last: Option<Reading>,
}

impl Meter {
    /// A turn has sent `frames` back; nothing is read of a clock in a turn without any.
    pub(crate) fn turn(&mut self, frames: usize) -> Result<()> {
        if frames == 0 {
            return Ok(());
        }
        self.reflected += frames as u64;
        let wall = Duration::from_nanos(sys::monotonic());
        if self.last.is_none_or(|last| wall - last.wall >= READING) {
            let reading = Reading { frames: self.reflected, wall, cpu: cpu_time()? };
            self.first.get_or_insert(reading);
            self.last = Some(reading);
        }
        Ok(())
    }

    /// Frames between the first reading and the last, and the time that they took: on the wall, and of
    /// this thread's CPU.
    pub(crate) fn measured(&self) -> Result<(f64, Duration, Duration)> {
        let (Some(first), Some(last)) = (self.first, self.last) else {
            anyhow::bail!("nothing was reflected")
        };
        let frames = last.frames - first.frames;
        ensure!(frames > 0, "all was reflected within {READING:?}");
        Ok((frames as f64, last.wall - first.wall, last.cpu.saturating_sub(first.cpu)))
    }
}

/// User and system time of the calling thread.
fn cpu_time() -> Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one structure, which is ours.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    ensure!(done == 0, "clock_gettime: {}", std::io::Error::last_os_error());
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}
