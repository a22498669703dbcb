//! Network namespaces for tests: made by the test, seen by nobody else, gone with its thread.

#![allow(unsafe_code, reason = "unshare(2) has no safe wrapper here")]

use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

/// Runs `test` on a thread in a network namespace of its own.
///
/// Without the privilege it is skipped, and says what it needs; as root it never is.
pub(crate) fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(|| {
        if !unshare() {
            eprintln!("skipped: a network namespace needs CAP_SYS_ADMIN (run as root)");
            return;
        }
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Moves this thread to a new network namespace.
fn unshare() -> bool {
    // SAFETY: affects this thread's view of the network only.
    let moved = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
    assert!(moved || !is_root(), "root may make namespaces: {}", std::io::Error::last_os_error());
    moved
}

/// Whether nothing needs to be skipped.
pub(crate) fn is_root() -> bool {
    // SAFETY: reads a number.
    unsafe { libc::geteuid() == 0 }
}

/// `ip ARGUMENTS`, in this thread's namespace.
#[track_caller]
pub(crate) fn ip(arguments: &str) {
    if let Err(error) = try_ip(arguments) {
        panic!("ip {arguments}: {error}");
    }
}

/// As [`ip`], where the kernel may not be able to.
pub(crate) fn try_ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output();
    let output = output.expect("the tests need iproute2's ip");
    let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(error) }
}

/// What `ethtool ARGUMENTS` prints, in this thread's namespace.
#[track_caller]
pub(crate) fn ethtool(arguments: &str) -> String {
    let output = Command::new("ethtool").args(arguments.split_whitespace()).output();
    let output = output.expect("the tests need ethtool");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ethtool {arguments}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// CLOCK_MONOTONIC since boot.
pub(crate) fn monotonic() -> std::time::Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    std::time::Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Runs `job` on a thread with these capabilities (bit numbers) and no other.
pub(crate) fn with_capabilities<T: Send>(bits: &[u32], job: impl FnOnce() -> T + Send) -> T {
    let set = bits.iter().fold(0u64, |set, bit| set | 1 << bit);
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            /// `struct __user_cap_header_struct`, version 3, this thread.
            const HEADER: [u32; 2] = [0x2008_0522, 0];
            let (low, high) = (set as u32, (set >> 32) as u32);
            let data = [low, low, 0, high, high, 0];
            // SAFETY: the kernel reads two structures of these sizes; only this thread changes.
            let done = unsafe { libc::syscall(libc::SYS_capset, HEADER.as_ptr(), data.as_ptr()) };
            assert_eq!(done, 0, "giving privileges up is always allowed");
            job()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Takes a program off its interface by force, as `bpftool link detach` does.
pub(crate) fn force_off(link: std::os::fd::BorrowedFd<'_>) {
    use std::os::fd::AsRawFd;
    const LINK_DETACH: libc::c_int = 34;
    let attributes = [link.as_raw_fd(), 0];
    let size = size_of_val(&attributes);
    // SAFETY: the kernel reads `size` bytes of an array that lives through the call.
    let done = unsafe { libc::syscall(libc::SYS_bpf, LINK_DETACH, &raw const attributes, size) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// Another host: a second namespace.
pub(crate) struct Host {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Names its namespace: `ip link set DEV netns ID`.
    pub(crate) id: i32,
}

type Job = Box<dyn FnOnce() + Send>;

impl Host {
    pub(crate) fn new() -> Host {
        let (jobs, queue) = channel::<Job>();
        let (ready, id) = channel();
        let thread = thread::spawn(move || {
            assert!(unshare(), "this thread's maker had the privilege");
            // SAFETY: reads a number.
            ready.send(unsafe { libc::gettid() }).expect("the maker waits");
            queue.iter().for_each(|job| job());
        });
        Host { jobs: Some(jobs), thread: Some(thread), id: id.recv().expect("it is up") }
    }

    /// Runs `job` there and waits for it.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let job = Box::new(move || {
            let _ = done.send(job());
        });
        self.jobs.as_ref().expect("until dropped").send(job).expect("the host lives");
        result.recv().expect("the job panicked")
    }

    /// `ip ARGUMENTS`, there.
    pub(crate) fn ip(&self, arguments: &str) {
        let arguments = arguments.to_owned();
        self.run(move || ip(&arguments));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
