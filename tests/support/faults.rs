//! Faults that a host has in store for a relay: another's AF_XDP socket on its queue, a program taken
//! off by force, a thread that does not get to run.
#![allow(unsafe_code, reason = "AF_XDP, bpf(2) and ptrace(2) have no safe wrappers here")]

use std::fs;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use anyhow::{Context, Result, bail, ensure};

use crate::lab::{Host, Lab};

/// A queue of an interface that somebody else has by an AF_XDP socket, until this is dropped.
#[derive(Debug)]
pub struct HeldQueue {
    _socket: OwnedFd,
    memory: *mut libc::c_void,
}

const HELD_BYTES: usize = 64 * 2048;

impl HeldQueue {
    /// Takes a queue on `host`. It receives nothing.
    ///
    /// # Errors
    /// Somebody else has it, or there is none.
    pub fn take(lab: &Lab, host: Host, device: &str, queue: u32) -> Result<Self> {
        let index: u32 =
            lab.run(host, &["cat", &format!("/sys/class/net/{device}/ifindex")])?.trim().parse()?;
        // a socket stays where it was made, whoever holds it
        let (socket, memory) = lab.inside(host, || {
            let held = Self::bind(index, queue);
            let held = held.with_context(|| format!("an AF_XDP socket on {device}/{queue}"))?;
            Ok((held.0, held.1 as usize))
        })?;
        Ok(Self { _socket: socket, memory: memory as *mut libc::c_void })
    }

    fn bind(index: u32, queue: u32) -> io::Result<(OwnedFd, *mut libc::c_void)> {
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh mapping at a place of the kernel's choice.
        let memory = unsafe { libc::mmap(ptr::null_mut(), HELD_BYTES, access, kind, -1, 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: takes numbers.
        let fd =
            check(unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
        // SAFETY: just made, and nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let registration = libc::xdp_umem_reg {
            addr: memory as u64,
            len: HELD_BYTES as u64,
            chunk_size: 2048,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        set(&socket, libc::XDP_UMEM_REG, &registration)?;
        for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING] {
            set(&socket, ring, &64_u32)?;
        }
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: libc::XDP_COPY,
            sxdp_ifindex: index,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        let (start, size) = ((&raw const address).cast(), size_of_val(&address) as u32);
        // SAFETY: the kernel reads an address within its length.
        check(unsafe { libc::bind(socket.as_raw_fd(), start, size) })?;
        Ok((socket, memory))
    }
}

impl Drop for HeldQueue {
    fn drop(&mut self) {
        // SAFETY: mapped by `bind`, and nothing of ours looks at it.
        unsafe { libc::munmap(self.memory, HELD_BYTES) };
    }
}

fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let (start, size) = (ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the kernel reads a plain structure within its size.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_XDP, option, start, size) };
    check(done).map(drop)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes the XDP program off a relay's interface by force, as `bpftool link detach` does: `ip link`
/// refuses that where a program is attached by a link.
///
/// # Errors
/// There is none.
pub fn force_program_off(lab: &Lab, device: &str) -> Result<()> {
    const ATTACHED_BY: u32 = 6;
    let index: u32 = lab
        .run(Host::Relay, &["cat", &format!("/sys/class/net/{device}/ifindex")])?
        .trim()
        .parse()?;
    let shown = lab.run(Host::Relay, &["ip", "-oneline", "link", "show", "dev", device])?;
    let program = shown.split("prog/xdp id ").nth(1).context("no program is attached")?;
    let program: u32 = program.split_whitespace().next().context("a number")?.parse()?;
    // interfaces of other hosts may have the same number: the program is this relay's alone
    let mut id = 0;
    while let Ok(next) = bpf(LINK_GET_NEXT_ID, &mut [id, 0, 0, 0]).map(|words| words[1]) {
        id = next;
        let Ok(link) = bpf_fd(LINK_GET_FD_BY_ID, id) else { continue };
        let mut info = [0_u32; 32];
        let address = (&raw mut info).expose_provenance() as u64;
        let (low, high) = (address as u32, (address >> 32) as u32);
        let size = size_of_val(&info) as u32;
        bpf(OBJ_GET_INFO_BY_FD, &mut [link.as_raw_fd() as u32, size, low, high])?;
        if [info[0], info[2], info[4]] == [ATTACHED_BY, program, index] {
            bpf(LINK_DETACH, &mut [link.as_raw_fd() as u32, 0, 0, 0])?;
            return Ok(());
        }
    }
    bail!("program {program} is on {device} by no link")
}

const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const LINK_GET_FD_BY_ID: libc::c_int = 30;
const LINK_GET_NEXT_ID: libc::c_int = 31;
const LINK_DETACH: libc::c_int = 34;

/// bpf(2) with the first words of its attributes, which it may change.
fn bpf(command: libc::c_int, words: &mut [u32; 4]) -> io::Result<[u32; 4]> {
    let size = match command {
        OBJ_GET_INFO_BY_FD => 16,
        LINK_DETACH => 4,
        _ => 12,
    };
    // SAFETY: the kernel reads and writes `size` bytes of an array that lives through the call, and,
    // where a word pair is the address of the caller's array, as many bytes as another word says.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, words.as_mut_ptr(), size) };
    check(done as libc::c_int)?;
    Ok(*words)
}

fn bpf_fd(command: libc::c_int, id: u32) -> io::Result<OwnedFd> {
    let mut words = [id, 0, 0, 0];
    // SAFETY: the kernel reads 12 bytes of an array that lives through the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, words.as_mut_ptr(), 12) };
    // SAFETY: just made, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(check(fd as libc::c_int)?) })
}

/// A thread that does not run, as if its core were somebody else's, until this is dropped. The others
/// of its process do.
#[derive(Debug)]
pub struct StoppedThread {
    thread: libc::pid_t,
    /// Who stops must let go.
    here: PhantomData<*const ()>,
}

impl StoppedThread {
    /// Stops the thread `name` of a process that this one started.
    ///
    /// # Errors
    /// There is no such thread, or no privilege (CAP_SYS_PTRACE).
    pub fn stop(process: u32, name: &str) -> Result<Self> {
        let thread = thread(process, name)?;
        let nothing = ptr::null_mut::<libc::c_void>();
        // SAFETY: takes numbers.
        let done = unsafe { libc::ptrace(libc::PTRACE_SEIZE, thread, nothing, nothing) };
        check(done as libc::c_int).context("seizing the thread")?;
        let stopped = Self { thread, here: PhantomData };
        // SAFETY: as above.
        let done = unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, thread, nothing, nothing) };
        check(done as libc::c_int).context("stopping the thread")?;
        let mut status = 0;
        // SAFETY: the kernel writes a number of ours.
        let waited = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
        ensure!(waited == thread && libc::WIFSTOPPED(status), "it did not stop: {status:#x}");
        Ok(stopped)
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        let nothing = ptr::null_mut::<libc::c_void>();
        // SAFETY: takes numbers; a thread that has ended meanwhile is let go of already.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.thread, nothing, nothing) };
    }
}

/// The number of a process's thread.
///
/// # Errors
/// There is none of this name.
pub fn thread(process: u32, name: &str) -> Result<libc::pid_t> {
    for entry in fs::read_dir(format!("/proc/{process}/task"))? {
        let entry = entry?;
        if fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == name) {
            return Ok(entry.file_name().to_string_lossy().parse()?);
        }
    }
    bail!("process {process} has no thread {name}")
}

/// True when every thread of a process is stopped, as by SIGSTOP, which takes its time.
///
/// # Errors
/// It has ended.
pub fn stands_still(process: u32) -> Result<bool> {
    for entry in fs::read_dir(format!("/proc/{process}/task"))? {
        let stat = fs::read_to_string(entry?.path().join("stat"))?;
        if !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Processor time that a process has used up, in seconds.
///
/// # Errors
/// It has ended.
pub fn cpu_seconds(process: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("a name")?.1.split_whitespace().collect();
    // utime and stime: 14 and 15 of proc(5), in hundredths
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("a time")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
