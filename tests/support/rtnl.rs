//! Holding the kernel's lock of network configuration (RTNL), for as long as a test wants.
//!
//! ```text
//!   | ETHTOOL_GFLAGS |  the flags' place |
//!   page that is there  page that is not: the kernel, which has the lock, waits here for us
//! ```
//!
//! SIOCETHTOOL copies its answer out under that lock. Where the answer is to go is a page whose
//! absence userfaultfd(2) tells to a thread of ours, and nobody fills it in until the descriptor is
//! closed. There is one such lock for the whole machine: whoever configures a network waits meanwhile,
//! so a test holds it for moments.
#![allow(unsafe_code, reason = "userfaultfd(2), mmap(2) and ioctl(2) have no safe wrappers here")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};

use crate::wait::{self, SOON};

/// `linux/userfaultfd.h`: the interface's version, and two of its calls.
const UFFD_API: u64 = 0xaa;
const UFFDIO_API: libc::Ioctl = 0xc018_aa3f;
const UFFDIO_REGISTER: libc::Ioctl = 0xc020_aa00;
const REGISTER_MISSING: u64 = 1;
/// `linux/ethtool.h`: reads, and changes nothing.
const ETHTOOL_GFLAGS: u32 = 0x25;
/// Bytes of a page, and of one message of userfaultfd.
const PAGE: usize = 4096;
const MESSAGE: usize = 32;

/// The lock, held until this is dropped or [released](Rtnl::release).
#[derive(Debug)]
pub struct Rtnl {
    fault: Option<OwnedFd>,
    holder: Option<JoinHandle<io::Result<()>>>,
}

impl Rtnl {
    /// Takes the lock. `None`, and a word about it, where this kernel or the lack of privilege does
    /// not let tests do so.
    ///
    /// # Errors
    /// It cannot be had in time, or what holds it failed.
    pub fn hold() -> Result<Option<Rtnl>> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        // SAFETY: takes a number and makes a descriptor.
        let fault = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
        if fault < 0 {
            let error = io::Error::last_os_error();
            eprintln!("skipped: holding the kernel's lock needs userfaultfd(2): {error}");
            return Ok(None);
        }
        // SAFETY: the kernel made this descriptor for us, and nobody else has it.
        let fault = unsafe { OwnedFd::from_raw_fd(i32::try_from(fault)?) };
        let mut api = [UFFD_API, 0, 0];
        control(&fault, UFFDIO_API, &mut api).context("UFFDIO_API")?;
        let pages = Pages::new()?;
        let mut range = [pages.second(), PAGE as u64, REGISTER_MISSING, 0];
        control(&fault, UFFDIO_REGISTER, &mut range).context("UFFDIO_REGISTER")?;
        let holder = std::thread::spawn(move || pages.ask());
        let mut held = Rtnl { fault: Some(fault), holder: Some(holder) };
        wait::until("the kernel waits with its lock", SOON, || held.is_waiting())?;
        Ok(Some(held))
    }

    /// Gives the lock back.
    ///
    /// # Errors
    /// What held it failed: it may not have been held at all.
    pub fn release(mut self) -> Result<()> {
        self.end()
    }

    /// True once the kernel has come to the page that is not there.
    fn is_waiting(&mut self) -> Result<Option<()>> {
        ensure!(!self.holder.as_ref().is_some_and(JoinHandle::is_finished), "it did not wait");
        let mut message = [0u8; MESSAGE];
        let Some(fault) = &self.fault else { return Ok(None) };
        // SAFETY: the kernel writes at most as many bytes as the buffer has.
        let read =
            unsafe { libc::read(fault.as_raw_fd(), message.as_mut_ptr().cast(), message.len()) };
        Ok((read == MESSAGE as isize).then_some(()))
    }

    fn end(&mut self) -> Result<()> {
        // whoever waits for a page goes on once nobody is there to bring it
        drop(self.fault.take());
        let Some(holder) = self.holder.take() else { return Ok(()) };
        let ended = holder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        ended.context("the call that holds the lock")
    }
}

impl Drop for Rtnl {
    fn drop(&mut self) {
        // a test that has failed already says more
        let _ = self.end();
    }
}

/// Two pages, of which the second was never touched.
struct Pages(*mut u8);

// SAFETY: the memory belongs to whoever has this, and to no thread.
unsafe impl Send for Pages {}

impl Pages {
    fn new() -> io::Result<Pages> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at a place of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), 2 * PAGE, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Pages(start.cast()))
    }

    fn second(&self) -> u64 {
        self.0 as u64 + PAGE as u64
    }

    /// SIOCETHTOOL with the command at the end of the first page and the answer's place in the second.
    fn ask(self) -> io::Result<()> {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
        // SAFETY: the last four bytes of the first page, which is ours; aligned.
        let command = unsafe { self.0.add(PAGE - size_of::<u32>()).cast::<u32>() };
        // SAFETY: as above.
        unsafe { command.write(ETHTOOL_GFLAGS) };
        let mut request = [0u64; 5];
        request[0] = u64::from_ne_bytes(*b"lo\0\0\0\0\0\0");
        request[2] = command as u64;
        // SAFETY: the kernel reads one `ifreq` (40 bytes: a name of 16, then the pointer) and writes
        // eight bytes at `command`, which lie in the two pages.
        let done =
            unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, request.as_mut_ptr()) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and nobody uses it any more.
        unsafe { libc::munmap(self.0.cast(), 2 * PAGE) };
    }
}

fn control<const N: usize>(
    fd: &OwnedFd,
    what: libc::Ioctl,
    words: &mut [u64; N],
) -> io::Result<()> {
    // SAFETY: the kernel reads and writes the structure of this call, which `words` has the size of.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), what, words.as_mut_ptr()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
