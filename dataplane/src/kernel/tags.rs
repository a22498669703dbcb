//! VLAN tags stay in their frames, where the program sees them.
//!
//! ```text
//!  on the wire             | to  from | 81 00  tag | 08 00 ...
//!  rx-vlan-offload on      | to  from | 08 00 ...              the tag is beside the frame
//! ```
//!
//! Most cards can take the tag out of a frame and hand it over beside it, and do so unless told
//! otherwise. The program would take such a frame for an untagged one, and relay what belongs to
//! another VLAN. So the offload (ETH_FLAG_RXVLAN) is switched off while the program is attached,
//! and given back afterwards. A killed process does not give it back; the kernel then looks for
//! tags by itself, as it does for cards without the offload.
//!
//! A veth has the flag too, but nothing that goes by it: its far end decides (`txvlan` there), and
//! neither way of XDP tells the program. See [`Links::vlan_of`](super::links::Links::vlan_of).

#![allow(unsafe_code, reason = "ioctl(2) has no safe wrapper here")]

use std::io;
use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

/// Commands and flags of `linux/ethtool.h`.
const GET_FLAGS: u32 = 0x25;
const SET_FLAGS: u32 = 0x26;
const RX_VLAN: u32 = 1 << 8;

/// The offload of one interface, switched off until this is dropped.
pub(crate) struct Untagging {
    device: Device,
    /// False where it was off already, or unknown.
    was_on: bool,
}

/// What keeps tags out of the program's sight.
#[derive(Debug)]
pub(crate) enum Stripped {
    /// The driver goes on stripping, with this answer if it gave one.
    Kept(Option<io::Error>),
    /// It cannot be asked.
    Unknown(io::Error),
}

impl Untagging {
    /// Has interface `index` of the calling thread's network namespace leave tags in frames.
    /// Needs CAP_NET_ADMIN if it does not already.
    pub(crate) fn switch_off(index: u32) -> Result<Untagging, Stripped> {
        let device = Device::open(index).map_err(Stripped::Unknown)?;
        let was_on = clear(&device)?;
        Ok(Untagging { device, was_on })
    }

    pub(crate) fn index(&self) -> u32 {
        self.device.index
    }

    /// True when it is this that switched the offload off.
    pub(crate) fn was_on(&self) -> bool {
        self.was_on
    }
}

impl Drop for Untagging {
    fn drop(&mut self) {
        if self.was_on
            && let Ok(flags) = self.device.flags()
        {
            // Gone, or not ours to change any more: then it has no use for it either.
            let _ = self.device.set_flags(flags | RX_VLAN);
        }
    }
}

/// A driver's flags.
trait Driver {
    fn flags(&self) -> io::Result<u32>;
    fn set_flags(&self, flags: u32) -> io::Result<()>;
}

/// Clears the flag. True when it was set before.
fn clear(driver: &impl Driver) -> Result<bool, Stripped> {
    let flags = match driver.flags() {
        Ok(flags) => flags,
        // Such an interface strips nothing.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(false),
        Err(error) => return Err(Stripped::Unknown(error)),
    };
    if flags & RX_VLAN == 0 {
        return Ok(false);
    }
    driver.set_flags(flags & !RX_VLAN).map_err(|error| Stripped::Kept(Some(error)))?;
    match driver.flags() {
        Ok(flags) if flags & RX_VLAN == 0 => Ok(true),
        Ok(_) => Err(Stripped::Kept(None)),
        Err(error) => Err(Stripped::Unknown(error)),
    }
}

/// One interface, by its number: it may be renamed.
struct Device {
    /// Any socket of the interface's network namespace will do.
    socket: Socket,
    index: u32,
}

/// `struct ifreq`: a name, and a union as large as an address or a pointer, of 24 bytes.
#[repr(C, align(8))]
struct Request {
    name: [u8; 16],
    value: u64,
    rest: [u64; 2],
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

impl Device {
    fn open(index: u32) -> io::Result<Device> {
        Ok(Device { socket: Socket::new(Domain::UNIX, Type::DGRAM, None)?, index })
    }

    fn ethtool(&self, command: u32, data: u32) -> io::Result<u32> {
        let mut value = Value { command, data };
        // The index comes first in the union: four bytes.
        let index = u64::from(self.index);
        let mut request = Request { name: [0; 16], value: index, rest: [0; 2] };
        self.ioctl(libc::SIOCGIFNAME, &mut request)?;
        request.value = (&raw mut value) as u64;
        self.ioctl(libc::SIOCETHTOOL, &mut request)?;
        Ok(value.data)
    }

    fn ioctl(&self, what: libc::Ioctl, request: &mut Request) -> io::Result<()> {
        // SAFETY: both calls read and write one `ifreq`, which `request` is; the address in it
        // that SIOCETHTOOL follows is that of the caller's `Value`, which lives through the call.
        let done = unsafe { libc::ioctl(self.socket.as_raw_fd(), what, &raw mut *request) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Driver for Device {
    fn flags(&self) -> io::Result<u32> {
        self.ethtool(GET_FLAGS, 0)
    }

    fn set_flags(&self, flags: u32) -> io::Result<()> {
        self.ethtool(SET_FLAGS, flags).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Any other flag.
    const LRO: u32 = 1 << 15;

    struct Card {
        flags: Cell<u32>,
        /// Flags that stay as they are.
        fixed: u32,
        refuses: Option<i32>,
    }

    impl Driver for Card {
        fn flags(&self) -> io::Result<u32> {
            match self.refuses {
                Some(libc::EOPNOTSUPP) => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
                _ => Ok(self.flags.get()),
            }
        }

        fn set_flags(&self, flags: u32) -> io::Result<()> {
            if let Some(error) = self.refuses {
                return Err(io::Error::from_raw_os_error(error));
            }
            self.flags.set(flags | self.fixed & self.flags.get());
            Ok(())
        }
    }

    fn card(flags: u32, fixed: u32, refuses: Option<i32>) -> Card {
        Card { flags: Cell::new(flags), fixed, refuses }
    }

    #[test]
    fn a_card_that_strips_stops_and_keeps_its_other_flags() {
        let card = card(RX_VLAN | LRO, 0, None);
        assert!(clear(&card).unwrap());
        assert_eq!(card.flags.get(), LRO);
    }

    #[test]
    fn a_card_that_strips_nothing_is_left_alone() {
        let refusal = Some(libc::EPERM);
        assert!(!clear(&card(LRO, 0, refusal)).unwrap());
        assert!(!clear(&card(0, 0, Some(libc::EOPNOTSUPP))).unwrap(), "it knows no such flag");
    }

    #[test]
    fn a_card_that_goes_on_stripping_is_told() {
        assert!(matches!(clear(&card(RX_VLAN, RX_VLAN, None)), Err(Stripped::Kept(None))));
        let refused = clear(&card(RX_VLAN, 0, Some(libc::EINVAL)));
        assert!(matches!(refused, Err(Stripped::Kept(Some(_)))), "{refused:?}");
    }
}
