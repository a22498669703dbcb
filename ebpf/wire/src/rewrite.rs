//! Carries a plan out: new headers in front of data that stays where it is.

use crate::headers::{ChannelData, Ethernet, IPV4, IPV6, Ipv4, Ipv6, UDP, Udp, VLAN, Vlan};
use crate::{Family, Frame, Plan, Reason, Sum};
use zerocopy::network_endian::{U16, U32};

/// Carries out `plan`. [`Reason::NoHeadroom`] leaves the frame as it was; only [`Reason::Torn`]
/// leaves a changed frame behind, and a good plan cannot tear.
#[inline(always)]
pub fn rewrite<F: Frame>(frame: &mut F, plan: &Plan<'_>) -> Result<(), Reason> {
    frame.move_head(plan.move_head).ok_or(Reason::NoHeadroom)?;
    write(frame, plan).ok_or(Reason::Torn)
}

#[inline(always)]
fn write<F: Frame>(frame: &mut F, plan: &Plan<'_>) -> Option<()> {
    let (route, header) = (&plan.forward.route, plan.forward.header());
    let size = Udp::SIZE as u16 + header + plan.forward.data;
    let v4 = route.family() == Family::V4;
    let ip = ethernet(frame, plan, if v4 { IPV4 } else { IPV6 })?;
    let udp = if v4 { ipv4(frame, ip, plan, size)? } else { ipv6(frame, ip, plan, size)? };
    *frame.at_mut(udp)? = Udp {
        src: route.src_port,
        dst: route.dst_port,
        size: size.into(),
        checksum: plan.checksum,
    };
    if header != 0 {
        *frame.at_mut(udp + Udp::SIZE)? =
            ChannelData { channel: route.channel, size: plan.forward.data.into() };
    }
    if plan.trim_tail > 0 {
        frame.trim_tail(plan.trim_tail)?;
    }
    Some(())
}

#[inline(always)]
fn ethernet<F: Frame>(frame: &mut F, plan: &Plan<'_>, kind: u16) -> Option<usize> {
    let hop = &plan.hop;
    let tagged = hop.vlan != U16::ZERO;
    let outer = if tagged { VLAN } else { kind };
    *frame.at_mut(0)? = Ethernet { dst: hop.dst, src: hop.src, kind: outer.into() };
    if !tagged {
        return Some(Ethernet::SIZE);
    }
    *frame.at_mut(Ethernet::SIZE)? = Vlan { tag: hop.vlan, kind: kind.into() };
    Some(Ethernet::SIZE + Vlan::SIZE)
}

#[inline(always)]
fn ipv4<F: Frame>(frame: &mut F, offset: usize, plan: &Plan<'_>, size: u16) -> Option<usize> {
    let (route, carried) = (&plan.forward.route, &plan.carried);
    let size: U16 = (Ipv4::SIZE as u16 + size).into();
    let checksum = Sum::raw(route.header)
        .with(U16::from_bytes([0, carried.class]))
        .with(size)
        .with(carried.id)
        .with(carried.fragment)
        .with(U16::from_bytes([carried.ttl, 0]))
        .checksum();
    *frame.at_mut(offset)? = Ipv4 {
        version_ihl: 0x45,
        class: carried.class,
        size,
        id: carried.id,
        fragment: carried.fragment,
        ttl: carried.ttl,
        protocol: UDP,
        checksum,
        src: route.src.octets4(),
        dst: route.dst.octets4(),
    };
    Some(offset + Ipv4::SIZE)
}

#[inline(always)]
fn ipv6<F: Frame>(frame: &mut F, offset: usize, plan: &Plan<'_>, size: u16) -> Option<usize> {
    let (route, carried) = (&plan.forward.route, &plan.carried);
    let word = 6 << 28 | u32::from(carried.class) << 20 | route.flow_label & 0xf_ffff;
    *frame.at_mut(offset)? = Ipv6 {
        version_class_flow: U32::new(word),
        size: size.into(),
        next: UDP,
        hops: carried.ttl,
        src: route.src.octets(),
        dst: route.dst.octets(),
    };
    Some(offset + Ipv6::SIZE)
}
