//! What the process asks of its kernel: time, limits, signals and the cores it runs on.
#![allow(unsafe_code, reason = "clock_gettime, setrlimit, sigaction and the like take pointers")]
#![allow(clippy::disallowed_methods, reason = "this is the edge at which the clock is read")]

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// CLOCK_MONOTONIC in nanoseconds: the same clock for all processes of one host.
pub fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours; CLOCK_MONOTONIC always exists, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// The wall clock, since 1970.
pub fn wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Sleeps until CLOCK_MONOTONIC shows `at` nanoseconds; returns early for a signal.
pub fn sleep_until(at: u64) {
    let time = libc::timespec {
        tv_sec: (at / 1_000_000_000) as libc::time_t,
        tv_nsec: (at % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: `time` is a valid timespec; no remaining time is asked for.
    unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &raw const time,
            std::ptr::null_mut(),
        )
    };
}

/// Lets this thread's sleeps end when they should, not up to 50 us later.
pub fn precise_timers() {
    // SAFETY: PR_SET_TIMERSLACK takes a number and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) };
}

/// Binds this thread to a core.
///
/// # Errors
/// The core does not exist or is not allowed.
pub fn pin(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: a set of all zero bits is a valid, empty cpu_set_t, and has room for `core`.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        set
    };
    // SAFETY: `set` is ours and its size is given.
    let done = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Clock ticks a second, the unit of /proc/PID/stat.
pub fn clock_ticks_per_second() -> u64 {
    // SAFETY: sysconf takes a number.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).unwrap_or(100).max(1)
}

fn open_files() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is ours; RLIMIT_NOFILE always exists.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit
}

/// Most files that this process may have open, once raised.
pub fn open_files_limit() -> u64 {
    open_files().rlim_max
}

/// Raises the soft limit of open files to the hard one.
pub fn raise_open_files() {
    let mut limit = open_files();
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is ours. A refusal leaves the limit as it was, and sockets then say so.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}

/// When the first interrupt came; 0 while there has been none.
static INTERRUPTED: AtomicU64 = AtomicU64::new(0);
/// A second one ends the process only after so long: wrappers send the first one twice.
const AGAIN: u64 = 700_000_000;

extern "C" fn note_interrupt(_signal: libc::c_int) {
    let now = monotonic();
    match INTERRUPTED.load(Ordering::Relaxed) {
        0 => INTERRUPTED.store(now, Ordering::Relaxed),
        // SAFETY: _exit is async-signal-safe.
        first if now - first > AGAIN => unsafe { libc::_exit(130) },
        _ => {}
    }
}

/// From now on SIGINT and SIGTERM are noted; one that comes after another ends the process at once.
pub fn on_interrupt() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler uses an atomic, clock_gettime and _exit, all async-signal-safe; all
        // zero bytes are a valid sigaction with an empty mask.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note_interrupt as extern "C" fn(libc::c_int) as usize;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Whether one of them has come.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeping_ends_at_the_asked_time_or_later() {
        let at = monotonic() + 2_000_000;
        sleep_until(at);
        assert!(monotonic() >= at);
    }
}
