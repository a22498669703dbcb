//! The system calls of AF_XDP, each behind a safe wrapper.
#![allow(unsafe_code, reason = "socket options and bind(2) take pointers")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use super::mapping::{Mapping, Offsets};

/// Most frames that one sendto(2) handles in copy mode, from Linux 6.18 (`linux/if_xdp.h`).
pub(super) const MAX_TX_SKB_BUDGET: i32 = 9;

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The number of the interface called `name` in the calling thread's network namespace. ENODEV where
/// there is none; if_nametoindex(3) says so, or ENOENT, also when there is no descriptor to ask by.
pub(super) fn index(name: &str) -> io::Result<u32> {
    let mut request = Request::about(name)?;
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: reads and writes one `ifreq`, which lives through the call.
    check(unsafe { libc::ioctl(fd, libc::SIOCGIFINDEX, &raw mut request) })?;
    let [a, b, c, d, ..] = request.value.to_ne_bytes();
    Ok(u32::from_ne_bytes([a, b, c, d]))
}

/// An AF_XDP socket, bound to nothing.
pub(super) fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes numbers.
    let fd = unsafe { libc::socket(libc::AF_XDP, kind, 0) };
    check(fd)?;
    // SAFETY: a fresh descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set<T>(fd: BorrowedFd<'_>, level: i32, option: i32, value: &T) -> io::Result<()> {
    let (start, len) = (ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the kernel reads a plain structure within its size.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, start, len) })
}

/// Plain numbers that the kernel fills in: zeroes are a value of theirs.
trait Answer: Copy {}
impl Answer for i32 {}
impl Answer for libc::xdp_mmap_offsets {}
impl Answer for libc::xdp_options {}
impl Answer for libc::xdp_statistics {}

fn get<T: Answer>(fd: BorrowedFd<'_>, option: i32) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as libc::socklen_t;
    let (fd, to) = (fd.as_raw_fd(), value.as_mut_ptr().cast());
    // SAFETY: the kernel writes within the size; what it does not write is zero, which is a value.
    check(unsafe { libc::getsockopt(fd, libc::SOL_XDP, option, to, &raw mut len) })?;
    // SAFETY: as above.
    Ok(unsafe { value.assume_init() })
}

/// Sets an option of SOL_XDP that is a number.
pub(super) fn set_number(fd: BorrowedFd<'_>, option: i32, value: u32) -> io::Result<()> {
    set(fd, libc::SOL_XDP, option, &value)
}

/// Sets an option of SOL_SOCKET that is a number.
pub(super) fn set_socket_number(fd: BorrowedFd<'_>, option: i32, value: i32) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, option, &value)
}

/// Makes `memory` the socket's, in frames of `frame` bytes.
pub(super) fn register(
    fd: BorrowedFd<'_>,
    memory: &Mapping,
    frame: u32,
    headroom: u32,
) -> io::Result<()> {
    let registration = libc::xdp_umem_reg {
        addr: memory.address(),
        len: memory.len() as u64,
        chunk_size: frame,
        headroom,
        flags: 0,
        tx_metadata_len: 0,
    };
    set(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &registration)
}

/// Where the four rings have their parts.
pub(super) struct Layout {
    pub(super) rx: Offsets,
    pub(super) tx: Offsets,
    pub(super) fill: Offsets,
    pub(super) completion: Offsets,
}

pub(super) fn layout(fd: BorrowedFd<'_>) -> io::Result<Layout> {
    let all: libc::xdp_mmap_offsets = get(fd, libc::XDP_MMAP_OFFSETS)?;
    let one = |ring: libc::xdp_ring_offset| Offsets {
        producer: ring.producer as usize,
        consumer: ring.consumer as usize,
        flags: ring.flags as usize,
        entries: ring.desc as usize,
    };
    Ok(Layout { rx: one(all.rx), tx: one(all.tx), fill: one(all.fr), completion: one(all.cr) })
}

/// Binds to a queue; with the memory of the socket `shared` where that is given.
pub(super) fn bind(
    fd: BorrowedFd<'_>,
    interface: u32,
    queue: u32,
    flags: u16,
    shared: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: interface,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: shared.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    let (start, len) = ((&raw const address).cast(), size_of_val(&address) as libc::socklen_t);
    // SAFETY: the kernel reads an address within its length.
    check(unsafe { libc::bind(fd.as_raw_fd(), start, len) })
}

/// True when the device reads and writes the frames where they lie.
pub(super) fn is_zero_copy(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let options: libc::xdp_options = get(fd, libc::XDP_OPTIONS)?;
    Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
}

pub(super) fn statistics(fd: BorrowedFd<'_>) -> io::Result<libc::xdp_statistics> {
    get(fd, libc::XDP_STATISTICS)
}

/// Has the kernel look at the tx ring.
pub(super) fn wake_tx(fd: BorrowedFd<'_>) -> io::Result<()> {
    let fd = fd.as_raw_fd();
    // SAFETY: no bytes of ours are read.
    let sent = unsafe { libc::sendto(fd, ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
    check(sent as i32)
}

/// Has the kernel look at the fill ring, or poll the device.
pub(super) fn wake_rx(fd: BorrowedFd<'_>) -> io::Result<()> {
    let (raw, nowhere) = (fd.as_raw_fd(), ptr::null_mut());
    // SAFETY: nothing is written: there is neither a buffer nor an address.
    let received = unsafe {
        libc::recvfrom(raw, nowhere, 0, libc::MSG_DONTWAIT, ptr::null_mut(), nowhere.cast())
    };
    let woken = check(received as i32);
    match &woken {
        // Linux 5.10 knows only poll(2) for this.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => poll(fd),
        _ => woken,
    }
}

fn poll(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut one = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure, which is ours.
    check(unsafe { libc::poll(&raw mut one, 1, 0) })
}

/// `struct ethtool_channels` of `linux/ethtool.h`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    max: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_drvinfo` of `linux/ethtool.h`, whose other 160 bytes are not looked at.
#[repr(C)]
struct DriverInformation {
    command: u32,
    driver: [u8; 32],
    rest: [u32; 40],
}

/// `struct ifreq`: a name, and a union of 24 bytes.
#[repr(C, align(8))]
struct Request {
    name: [u8; 16],
    value: u64,
    rest: [u64; 2],
}

impl Request {
    fn about(name: &str) -> io::Result<Request> {
        let mut request = Request { name: [0; 16], value: 0, rest: [0; 2] };
        let room = request.name.get_mut(..name.len()).filter(|room| room.len() < 16);
        room.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(name.as_bytes());
        Ok(request)
    }
}

/// Receive queues of an interface (ETHTOOL_GCHANNELS).
pub(super) fn channels(name: &str) -> io::Result<u32> {
    const GET_CHANNELS: u32 = 0x3c;
    let mut channels = Channels { command: GET_CHANNELS, ..Channels::default() };
    ethtool(name, &mut channels)?;
    Ok(channels.rx + channels.combined)
}

/// The driver's name (ETHTOOL_GDRVINFO).
pub(super) fn driver(name: &str) -> io::Result<String> {
    const GET_DRIVER_INFORMATION: u32 = 3;
    let mut information =
        DriverInformation { command: GET_DRIVER_INFORMATION, driver: [0; 32], rest: [0; 40] };
    ethtool(name, &mut information)?;
    let driver = information.driver.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(driver).into_owned())
}

/// Structures of an ethtool command as a whole, which begin with its number.
trait Command {}
impl Command for Channels {}
impl Command for DriverInformation {}

fn ethtool<C: Command>(name: &str, command: &mut C) -> io::Result<()> {
    let mut request = Request::about(name)?;
    request.value = ptr::from_mut(command) as u64;
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: reads one `ifreq`, and writes the structure of this command that it points to; both
    // live through the call, and any bytes are a value of theirs.
    check(unsafe { libc::ioctl(fd, libc::SIOCETHTOOL, &raw mut request) })
}
