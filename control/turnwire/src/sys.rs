//! The few calls to the operating system that the standard library does not have: interfaces'
//! addresses, cores, the monotonic clock, the limit of descriptors, and signals as a descriptor.

#![allow(unsafe_code, reason = "libc calls, each with the check that it relies on")]

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// One address of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The interface's name.
    pub name: String,
    /// The address.
    pub ip: IpAddr,
    /// The length of the network's prefix, in bits.
    pub prefix_len: u8,
    /// The interface is up.
    pub up: bool,
    /// It is a loopback interface.
    pub loopback: bool,
}

/// Every address of every interface.
///
/// # Errors
/// What getifaddrs(3) says.
pub fn interface_addresses() -> io::Result<Vec<InterfaceAddress>> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `first` is a place for one pointer, as getifaddrs(3) wants.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut next = first;
    while !next.is_null() {
        // SAFETY: the list came from getifaddrs(3) and is freed below, after the last use.
        let entry = unsafe { &*next };
        // SAFETY: getifaddrs(3) gives null, or an address whose size its family tells.
        let (ip, mask) = unsafe { (ip_of(entry.ifa_addr), ip_of(entry.ifa_netmask)) };
        if let Some(ip) = ip {
            // SAFETY: the name is a C string inside the list.
            let name = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy().into_owned();
            let flag = |bit: libc::c_int| entry.ifa_flags & bit.cast_unsigned() != 0;
            let (up, loopback) = (flag(libc::IFF_UP), flag(libc::IFF_LOOPBACK));
            let prefix_len = mask.map_or(if ip.is_ipv4() { 32 } else { 128 }, ones);
            addresses.push(InterfaceAddress { name, ip, prefix_len, up, loopback });
        }
        next = entry.ifa_next;
    }
    // SAFETY: `first` is the list's head, and nothing borrowed from it is left.
    unsafe { libc::freeifaddrs(first) };
    Ok(addresses)
}

/// # Safety
/// `address` is null or points to a socket address as large as its family says.
unsafe fn ip_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: every socket address starts with its family, and the caller vouches for the size.
    unsafe {
        match i32::from((*address).sa_family) {
            libc::AF_INET => {
                let v4 = std::ptr::read_unaligned(address.cast::<libc::sockaddr_in>());
                Some(Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes()).into())
            }
            libc::AF_INET6 => {
                let v6 = std::ptr::read_unaligned(address.cast::<libc::sockaddr_in6>());
                Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}

/// The length of a prefix whose mask is `mask`, in bits.
fn ones(mask: IpAddr) -> u8 {
    let count = match mask {
        IpAddr::V4(v4) => v4.to_bits().leading_ones(),
        IpAddr::V6(v6) => v6.to_bits().leading_ones(),
    };
    u8::try_from(count).unwrap_or(128)
}

/// The cores that this process may run on, in order.
///
/// # Errors
/// What sched_getaffinity(2) says.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    // SAFETY: a set of cores is plain bits, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is as large as the size given.
    let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let cores = 0..usize::try_from(libc::CPU_SETSIZE).unwrap_or(1024);
    // SAFETY: every core asked for is below CPU_SETSIZE.
    Ok(cores.filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect())
}

/// Time since boot, as every lifetime is measured by it.
pub fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a place for one timespec. CLOCK_MONOTONIC exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let (secs, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(secs.unwrap_or(0), nanos.unwrap_or(0))
}

/// Raises the soft limit of open descriptors to the hard one, and returns it.
///
/// # Errors
/// What getrlimit(2) or setrlimit(2) says.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a place for one rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is one rlimit.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// A descriptor that turns readable when one of `signals` arrives, which are no longer delivered
/// in any other way to this thread and to those that it starts from now on.
///
/// # Errors
/// What pthread_sigmask(3) or signalfd(2) says.
pub fn signal_descriptor(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    // SAFETY: a signal set is plain bits; sigemptyset(3) makes it an empty one in any case.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a place for one set, and the signals come from libc's constants.
    unsafe {
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
    }
    // SAFETY: `set` was filled above; a null old set is allowed.
    let result =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    // SAFETY: -1 asks for a new descriptor; `set` was filled above.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: signalfd(2) just gave this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next signal that waits in `descriptor`, if any.
pub fn next_signal(descriptor: &OwnedFd) -> Option<libc::c_int> {
    // SAFETY: the record is plain numbers, for which zero is a value.
    let mut record: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
    let size = size_of_val(&record);
    // SAFETY: `record` has `size` bytes to write to.
    let read = unsafe { libc::read(descriptor.as_raw_fd(), (&raw mut record).cast(), size) };
    let whole = usize::try_from(read).is_ok_and(|read| read == size);
    whole.then(|| libc::c_int::try_from(record.ssi_signo).unwrap_or(0))
}

/// Columns and lines of a terminal; `None` if it is none, or does not know.
pub fn terminal_size(descriptor: BorrowedFd<'_>) -> Option<(usize, usize)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is a place for one winsize, as TIOCGWINSZ wants.
    let result = unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    let known = result == 0 && size.ws_col > 0 && size.ws_row > 0;
    known.then(|| (size.ws_col.into(), size.ws_row.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_with_its_prefix() {
        let addresses = interface_addresses().expect("interfaces");
        let loopback = addresses.iter().find(|address| address.ip == Ipv4Addr::LOCALHOST);
        let loopback = loopback.expect("every host has 127.0.0.1");
        assert!(loopback.loopback && loopback.up);
        assert_eq!(loopback.prefix_len, 8);
    }

    #[test]
    fn there_is_a_core_and_the_clock_runs_forward() {
        assert!(!allowed_cores().expect("cores").is_empty());
        let earlier = monotonic();
        assert!(earlier > Duration::ZERO && monotonic() >= earlier);
    }
}
