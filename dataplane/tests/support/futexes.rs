//! Counts the futex(2) calls of this process's threads: every lock, channel or condition that a thread
//! waits for, or wakes another for, comes to one.
//!
//! ```text
//!   any thread ──futex──> seccomp filter ──notification──> counted here, by the thread's name
//!        ^                                                    │
//!        └────────────────── it goes on as it was ────────────┘
//! ```
//!
//! A lock that is free is taken without a system call: tests/tidy.rs sees to it that none is named in
//! the packet path. Kernel document: Documentation/userspace-api/seccomp_filter.rst.
#![allow(unsafe_code, reason = "seccomp has no safe wrapper")]
#![allow(dead_code, reason = "a test uses its own part")]

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::SeqCst};

/// Of workers' and session threads' names.
const NAME: &[u8] = b"turnwire-";

static COUNTED: AtomicU64 = AtomicU64::new(0);
static OTHERS: AtomicU64 = AtomicU64::new(0);
/// The descriptor of notifications. Before: nobody answers yet, or somebody waits to.
static LISTENER: AtomicI32 = AtomicI32::new(NOBODY);
const NOBODY: i32 = -1;
const WAITING: i32 = -2;

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Notification {
    id: u64,
    thread: u32,
    flags: u32,
    data: [u64; 8],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `_IOWR('!', 0, struct seccomp_notif)`, and 1 with `struct seccomp_notif_resp`.
const RECEIVE: libc::c_ulong = 0xc050_2100;
const RESPOND: libc::c_ulong = 0xc018_2101;
const CONTINUE: u32 = 1;
const SET_MODE_FILTER: libc::c_ulong = 1;
/// All threads, or an error.
const EVERYWHERE: libc::c_ulong = 1 | 1 << 4;
/// A descriptor for notifications.
const NEW_LISTENER: libc::c_ulong = 1 << 3;
const RETURN_NOTIFY: u32 = 0x7fc0_0000;
const RETURN_ALLOW: u32 = 0x7fff_0000;

/// From now on all threads' calls are counted, those of later threads too.
///
/// # Panics
/// The kernel refuses.
pub(crate) fn count() {
    install(EVERYWHERE, is_named);
}

/// From now on the calling thread's calls are counted, as a worker's are, and only those of threads
/// that it makes are counted as others'. For a worker that a test steps by hand, beside other tests.
///
/// # Panics
/// The kernel refuses.
pub(crate) fn count_here() {
    // SAFETY: returns a number.
    let own = unsafe { libc::gettid() } as u32;
    install(0, move |thread| thread == own);
}

fn install(threads: libc::c_ulong, is_ours: impl Fn(u32) -> bool + Send + 'static) {
    static DONE: AtomicBool = AtomicBool::new(false);
    assert!(!DONE.swap(true, SeqCst), "once in a process");
    std::thread::spawn(move || answer(is_ours));
    // what a thread does to start may take locks, and nobody would answer for this one
    while LISTENER.load(SeqCst) != WAITING {
        std::thread::yield_now();
    }
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        // the system call's number: the first word of seccomp_data
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_futex as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, RETURN_NOTIFY),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, RETURN_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the first takes numbers; the second reads `program` and its steps, which live here.
    let descriptor = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            NEW_LISTENER | threads,
            &raw const program,
        )
    };
    assert!(descriptor >= 0, "seccomp: {}", std::io::Error::last_os_error());
    LISTENER.store(descriptor as i32, SeqCst);
}

/// Calls of workers and session threads so far, or of the thread that counts its own.
pub(crate) fn counted() -> u64 {
    COUNTED.load(SeqCst)
}

/// Calls of all other threads so far.
pub(crate) fn counted_of_others() -> u64 {
    OTHERS.load(SeqCst)
}

/// Lets every call go on. Its own thread must make none, so it neither allocates nor locks.
fn answer(is_ours: impl Fn(u32) -> bool) {
    LISTENER.store(WAITING, SeqCst);
    let descriptor = loop {
        match LISTENER.load(SeqCst) {
            WAITING => std::hint::spin_loop(),
            descriptor => break descriptor,
        }
    };
    loop {
        let mut ready = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
        // SAFETY: one structure, which the kernel writes to.
        unsafe { libc::poll(&raw mut ready, 1, -1) };
        if ready.revents & libc::POLLHUP != 0 {
            // no thread with the filter is left
            return;
        }
        let mut call = Notification { id: 0, thread: 0, flags: 0, data: [0; 8] };
        // SAFETY: the kernel fills a structure of this size.
        if unsafe { libc::ioctl(descriptor, RECEIVE, &raw mut call) } != 0 {
            // the thread that called is no more
            continue;
        }
        let counter = if is_ours(call.thread) { &COUNTED } else { &OTHERS };
        counter.fetch_add(1, SeqCst);
        let response = Response { id: call.id, value: 0, error: 0, flags: CONTINUE };
        // SAFETY: the kernel reads a structure of this size. An error means the same as above.
        unsafe { libc::ioctl(descriptor, RESPOND, &raw const response) };
    }
}

/// By the name in /proc/self/task/THREAD/comm.
fn is_named(thread: u32) -> bool {
    let mut path = *b"/proc/self/task/..........\0....\0";
    let (mut digits, mut count, mut rest) = ([0; 10], 0, thread);
    while count == 0 || rest > 0 {
        digits[count] = b'0' + (rest % 10) as u8;
        (rest, count) = (rest / 10, count + 1);
    }
    for (at, digit) in digits[..count].iter().rev().enumerate() {
        path[16 + at] = *digit;
    }
    path[16 + count..16 + count + 6].copy_from_slice(b"/comm\0");
    let mut name = [0_u8; 16];
    // SAFETY: a string that ends, and a buffer with its size; the descriptor is closed again.
    let read = unsafe {
        let file = libc::open(path.as_ptr().cast(), libc::O_RDONLY | libc::O_CLOEXEC);
        let read = libc::read(file, name.as_mut_ptr().cast(), name.len());
        libc::close(file);
        read
    };
    read > 0 && name.starts_with(NAME)
}
