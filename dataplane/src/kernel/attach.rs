//! Attaching the program to interfaces, by links that end with this process.
//!
//! A BPF link is a descriptor: closing it, or dying in any way, detaches the program. That is why
//! the older way of attaching is used for one thing only: to hear a driver's words when it refuses.

#![allow(unsafe_code, reason = "BPF_LINK_CREATE: aya would fall back to a link that outlives us")]

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::error::AttachError;
use super::links::Links;
use super::netlink::Netlink;
use super::netlink::facts::{Link, LinkKind};
use super::tags::{Stripped, Untagging};

/// How the program is to be attached, or was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// Natively, or generically where the driver cannot, and on a veth: what is sent natively is
    /// lost there unless the far end runs a program as well, which cannot be seen from here.
    #[default]
    Auto,
    /// In the driver, before the kernel makes a packet of the frame.
    Native,
    /// By the kernel, for any driver, and slower.
    Generic,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            XdpMode::Auto => "auto",
            XdpMode::Native => "native",
            XdpMode::Generic => "generic",
        })
    }
}

/// An interface that the program is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedInterface {
    /// Its name.
    pub name: String,
    /// [`XdpMode::Native`] or [`XdpMode::Generic`].
    pub mode: XdpMode,
    /// Why in this mode.
    pub why: String,
}

/// `XDP_FLAGS_*` of `linux/if_link.h`.
mod flag {
    pub(super) const UPDATE_IF_NOEXIST: u32 = 1;
    pub(super) const SKB_MODE: u32 = 2;
    pub(super) const DRV_MODE: u32 = 4;
}

/// Finds an interface by name, and sees whether it can carry the fast path at all. `asked` is the
/// mode that was configured.
pub(crate) fn suitable<'l>(
    links: &'l Links,
    name: &str,
    asked: XdpMode,
) -> Result<&'l Link, AttachError> {
    let Some(link) = links.named(name) else {
        return Err(AttachError::Missing { name: name.to_owned(), there_are: links.names() });
    };
    let name_of = |index: u32| links.get(index).map_or("another", |other| other.name.as_str());
    let controller = link.controller.and_then(|index| links.get(index));
    let why = match (&link.kind, controller) {
        _ if link.loopback => "it is the loopback interface".to_owned(),
        (LinkKind::Vlan { parent, id }, _) => {
            let parent = name_of(*parent);
            format!("it is VLAN {id} of {parent}; give {parent}, whose VLANs are served with it")
        }
        (LinkKind::Stacked(kind), _) if !CARRIERS.contains(&kind.as_str()) => {
            format!("it is a {kind} interface; give the network card below it")
        }
        (_, Some(Link { kind: LinkKind::Stacked(kind), name, .. })) if kind != "vrf" => {
            format!("it is a port of {name}, a {kind} interface, which has its addresses")
        }
        _ if link.mac.is_none() => "it is no Ethernet interface".to_owned(),
        (LinkKind::Veth, _) if asked == XdpMode::Auto => {
            return match links.vlan_of(link.index) {
                Some(vlan) => Err(AttachError::TagsUncertain {
                    name: name.to_owned(),
                    vlan: vlan.name.clone(),
                }),
                None => Ok(link),
            };
        }
        _ => return Ok(link),
    };
    Err(AttachError::Unsuitable { name: name.to_owned(), why })
}

/// Why `auto` means generic mode on a veth. Linux frees what a driver sends natively (XDP_TX, or a
/// redirect) to a veth whose far end has no program, and reports nothing.
pub(crate) const VETH_IS_GENERIC: &str = "it is a veth, where frames sent natively are lost unless \
    the far end runs an XDP program too; if it does, ask for --xdp-mode native";

/// Has `link`, and what receives for it, leave VLAN tags in frames, where the program sees them.
pub(crate) fn keep_tags(
    links: &Links,
    link: &Link,
    kept: &mut Vec<Untagging>,
) -> Result<(), AttachError> {
    for index in links.receivers(link.index) {
        if kept.iter().any(|one| one.index() == index) {
            continue;
        }
        let name = links.get(index).map_or_else(|| link.name.clone(), |one| one.name.clone());
        kept.push(Untagging::switch_off(index).map_err(|stripped| match stripped {
            Stripped::Kept(answer) => AttachError::TagsStripped { name, answer },
            Stripped::Unknown(error) => AttachError::System {
                doing: "asking an interface whether it takes VLAN tags out of frames",
                error,
            },
        })?);
    }
    Ok(())
}

/// Kinds of virtual interface that take whole frames at their own address, as a card does.
const CARRIERS: [&str; 4] = ["bond", "tun", "dummy", "ifb"];

/// Attaches `program` to `link`. The program stays attached until the descriptor is dropped.
pub(crate) fn attach(
    program: BorrowedFd<'_>,
    link: &Link,
    mode: XdpMode,
    netlink: &mut Netlink,
) -> Result<(OwnedFd, AttachedInterface), AttachError> {
    let attached =
        |fd, mode, why: String| Ok((fd, AttachedInterface { name: link.name.clone(), mode, why }));
    if mode == XdpMode::Generic {
        let fd = attach_in(program, link, XdpMode::Generic, netlink)?;
        return attached(fd, XdpMode::Generic, "generic mode was asked for".to_owned());
    }
    if mode == XdpMode::Auto && link.kind == LinkKind::Veth {
        let fd = attach_in(program, link, XdpMode::Generic, netlink)?;
        return attached(fd, XdpMode::Generic, VETH_IS_GENERIC.to_owned());
    }
    let native = match attach_in(program, link, XdpMode::Native, netlink) {
        Ok(fd) => {
            return attached(fd, XdpMode::Native, "the driver runs XDP natively".to_owned());
        }
        Err(error) => error,
    };
    if mode == XdpMode::Native || !may_go_generic(&native) {
        return Err(native);
    }
    let fd = attach_in(program, link, XdpMode::Generic, netlink)?;
    attached(fd, XdpMode::Generic, native.to_string())
}

fn may_go_generic(error: &AttachError) -> bool {
    matches!(
        error,
        AttachError::NoNativeMode { .. }
            | AttachError::MtuTooLarge { .. }
            | AttachError::Refused { .. }
    )
}

fn attach_in(
    program: BorrowedFd<'_>,
    link: &Link,
    mode: XdpMode,
    netlink: &mut Netlink,
) -> Result<OwnedFd, AttachError> {
    let flags = if mode == XdpMode::Generic { flag::SKB_MODE } else { flag::DRV_MODE };
    let error = match create_link(program, link.index, flags) {
        Ok(fd) => return Ok(fd),
        Err(error) => error,
    };
    let name = link.name.clone();
    match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => {
            return Err(AttachError::Occupied { name, number: link.program });
        }
        Some(libc::EPERM | libc::EACCES) => {
            return Err(AttachError::Forbidden { doing: "attach the program", error });
        }
        Some(libc::ENODEV) => {
            return Err(AttachError::Missing { name, there_are: Vec::new() });
        }
        _ => {}
    }
    let words = words_of_driver(program, link, flags, netlink);
    let about_mtu = words.as_ref().is_some_and(|words| words.to_uppercase().contains("MTU"));
    Err(match error.raw_os_error() {
        _ if about_mtu => AttachError::MtuTooLarge { name, mtu: link.mtu, words },
        Some(libc::ERANGE | libc::EMSGSIZE | libc::EFBIG | libc::E2BIG) => {
            AttachError::MtuTooLarge { name, mtu: link.mtu, words }
        }
        Some(libc::EOPNOTSUPP) if mode == XdpMode::Native => {
            AttachError::NoNativeMode { name, words }
        }
        _ => AttachError::Refused { name, mode, error, words },
    })
}

/// What the driver says when it is asked the old way. Should it be willing, the program is taken
/// off again at once.
fn words_of_driver(
    program: BorrowedFd<'_>,
    link: &Link,
    flags: u32,
    netlink: &mut Netlink,
) -> Option<String> {
    match netlink.set_xdp(link.index, Some(program), flags | flag::UPDATE_IF_NOEXIST) {
        Ok(()) => {
            let _ = netlink.set_xdp(link.index, None, flags);
            None
        }
        Err(refusal) => refusal.words,
    }
}

/// bpf(2) with `BPF_LINK_CREATE`.
fn create_link(program: BorrowedFd<'_>, index: u32, flags: u32) -> io::Result<OwnedFd> {
    const LINK_CREATE: libc::c_int = 28;
    const ATTACH_XDP: u32 = 37;
    /// The `link_create` member of `union bpf_attr`.
    #[repr(C)]
    struct Attributes {
        program: i32,
        target_index: u32,
        attach_type: u32,
        flags: u32,
        /// Options of other kinds of link.
        rest: [u64; 2],
    }
    let attributes = Attributes {
        program: program.as_raw_fd(),
        target_index: index,
        attach_type: ATTACH_XDP,
        flags,
        rest: [0; 2],
    };
    let size = size_of::<Attributes>();
    // SAFETY: the kernel reads `size` bytes of a structure that lives through the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, LINK_CREATE, &raw const attributes, size) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel made this descriptor for us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The program, by number, that `link` keeps on an interface; `None` where it was taken off by force
/// (`BPF_LINK_DETACH`, which root may do to anybody's).
pub(crate) fn program_of(link: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
    /// The start of `struct bpf_link_info`, of a link for XDP.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        program: u32,
        gap: u32,
        ifindex: u32,
        rest: u32,
    }
    /// The `info` member of `union bpf_attr`.
    #[repr(C)]
    struct Attributes {
        fd: i32,
        size: u32,
        info: u64,
    }
    let mut info = Info::default();
    let attributes = Attributes {
        fd: link.as_raw_fd(),
        size: size_of::<Info>() as u32,
        info: (&raw mut info).expose_provenance() as u64,
    };
    let (command, size) = (OBJ_GET_INFO_BY_FD, size_of::<Attributes>());
    // SAFETY: the kernel reads `attributes` and writes at most its `size` bytes to `info`; both live
    // through the call.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attributes, size) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((info.ifindex != 0).then_some(info.program))
}
