//! What is known of an interface before a socket is opened on it.
//!
//! The features come by generic netlink, family `netdev` (Documentation/netlink/specs/netdev.yaml,
//! from Linux 6.3):
//!
//! ```text
//!   | length(4) type(2) flags(2) sequence(4) port(4) | command(1) version(1) 0(2) | attributes ...
//!   each attribute: | length(2) kind(2) value ... | 0 to 3 bytes |
//! ```

use std::io;
use std::time::Duration;

use netlink_packet_core::NlasIterator;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};
use socket2::SockRef;

use super::sys;

/// The controller's own family and what is asked of it (`linux/genetlink.h`).
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// Of the family `netdev` (`linux/netdev.h`).
const DEV_GET: u8 = 1;
const IFINDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;
const ZC_MAX_SEGS: u16 = 4;
/// Messages (`linux/netlink.h`).
const REQUEST: u16 = 1;
const ERROR: u16 = 2;
const HEADERS: usize = 16 + 4;
/// The kernel answers at once; this is for one that is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_MAX: usize = 8192;

/// What a driver says of its XDP (`enum netdev_xdp_act`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// The bits as they came.
    pub bits: u64,
    /// Most buffers of one frame in zero copy, 0 where it was not said.
    pub zero_copy_segments: u32,
}

impl Features {
    /// NETDEV_XDP_ACT_BASIC: programs run in the driver.
    pub fn native(self) -> bool {
        self.bits & 1 != 0
    }

    /// NETDEV_XDP_ACT_XSK_ZEROCOPY.
    pub fn zero_copy(self) -> bool {
        self.bits & 8 != 0
    }

    /// Asks for the features of `interface`, in the calling thread's network namespace. `None` from
    /// a kernel that cannot say (before 6.3).
    ///
    /// # Errors
    /// There is no such interface; netlink fails.
    pub fn of(interface: &str) -> io::Result<Option<Features>> {
        let index = sys::index(interface)?;
        let socket = open()?;
        let Some(family) = family(&socket)? else { return Ok(None) };
        let question = message(family, DEV_GET, IFINDEX, &index.to_ne_bytes());
        let answer = match ask(&socket, &question) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(None),
            answer => answer?,
        };
        Ok(Some(features(&answer)))
    }
}

/// True when the driver of `interface` says that it can leave frames where they lie. `None` from a
/// kernel that cannot say (before 6.3): trying it is the only way then. Whether it works here is
/// known after [`Queue::open`](super::Queue::open) only.
///
/// # Errors
/// There is no such interface; netlink fails.
pub fn zero_copy_advertised(interface: &str) -> io::Result<Option<bool>> {
    Ok(Features::of(interface)?.map(Features::zero_copy))
}

/// Receive queues of `interface`: a driver that cannot be asked has one.
///
/// # Errors
/// There is no such interface.
pub fn queues(interface: &str) -> io::Result<u32> {
    match sys::channels(interface) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(1),
        channels => Ok(channels?.max(1)),
    }
}

/// The name of the driver of `interface`: `None` where the kernel does not tell.
///
/// # Errors
/// There is no such interface.
pub fn driver(interface: &str) -> io::Result<Option<String>> {
    match sys::driver(interface) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        driver => driver.map(Some),
    }
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    SockRef::from(&socket).set_read_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(socket)
}

/// The number of the family `netdev`.
fn family(socket: &Socket) -> io::Result<Option<u16>> {
    let question = message(CONTROLLER, GET_FAMILY, FAMILY_NAME, b"netdev\0");
    match ask(socket, &question) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
        Ok(answer) => Ok(attribute(&answer, FAMILY_ID).map(u16::from_ne_bytes)),
    }
}

/// A question with one attribute.
fn message(kind: u16, command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    let len = HEADERS + 4 + value.len().next_multiple_of(4);
    let mut bytes = Vec::with_capacity(len);
    bytes.extend((len as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(REQUEST.to_ne_bytes());
    // sequence and port: one question at a time, on a socket of its own
    bytes.extend([0; 8]);
    bytes.extend([command, 1, 0, 0]);
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend(attribute.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(len, 0);
    bytes
}

/// The attributes of the answer.
fn ask(socket: &Socket, question: &[u8]) -> io::Result<Vec<u8>> {
    socket.send(question, 0)?;
    let mut buffer = vec![0; ANSWER_MAX];
    let len = socket.recv(&mut &mut buffer[..], 0)?;
    buffer.truncate(len);
    read(&buffer)
}

fn read(message: &[u8]) -> io::Result<Vec<u8>> {
    let torn = || io::Error::from(io::ErrorKind::InvalidData);
    let number = |at: usize| -> io::Result<u16> {
        let bytes = message.get(at..at + 2).ok_or_else(torn)?;
        Ok(u16::from_ne_bytes([bytes[0], bytes[1]]))
    };
    if number(4)? == ERROR {
        let bytes: [u8; 4] =
            message.get(16..20).and_then(|code| code.try_into().ok()).ok_or_else(torn)?;
        return Err(io::Error::from_raw_os_error(-i32::from_ne_bytes(bytes)));
    }
    let len = u32::from(number(0)?) | u32::from(number(2)?) << 16;
    Ok(message.get(HEADERS..len as usize).ok_or_else(torn)?.to_vec())
}

fn features(attributes: &[u8]) -> Features {
    Features {
        bits: attribute(attributes, XDP_FEATURES).map_or(0, u64::from_ne_bytes),
        zero_copy_segments: attribute(attributes, ZC_MAX_SEGS).map_or(0, u32::from_ne_bytes),
    }
}

fn attribute<const N: usize>(attributes: &[u8], kind: u16) -> Option<[u8; N]> {
    let found = NlasIterator::new(attributes).filter_map(Result::ok).find(|one| one.kind() == kind);
    found.and_then(|one| one.value().try_into().ok())
}
