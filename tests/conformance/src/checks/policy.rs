//! Which addresses may be peers (S5): 64 forbidden IPv4 targets in nine encodings, and IPv6 ones, by
//! every way to name a peer. None may pass; sockets of this host see no packet of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::code;
use crate::check::{Check, Stop, Verdict, fail, house, skip, want};
use crate::client::Client;
use crate::codec::{attribute, kind};
use crate::trial::Trial;

/// Forbidden by the profile `public`: ends and middles of every special range.
const TARGETS: [&str; 65] = [
    "0.0.0.0",
    "0.0.0.1",
    "0.255.255.255",
    "10.0.0.0",
    "10.0.0.1",
    "10.123.45.67",
    "10.255.255.255",
    "100.64.0.0",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.0",
    "127.0.0.1",
    "127.0.0.2",
    "127.0.0.53",
    "127.1.2.3",
    "127.255.255.255",
    "169.254.0.0",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.255.255",
    "172.16.0.0",
    "172.16.0.1",
    "172.17.0.1",
    "172.24.8.8",
    "172.31.255.255",
    "192.0.0.0",
    "192.0.0.1",
    "192.0.0.8",
    "192.0.0.170",
    "192.0.0.192",
    "192.0.0.255",
    "192.0.2.0",
    "192.0.2.1",
    "192.0.2.255",
    "192.88.99.0",
    "192.88.99.1",
    "192.88.99.255",
    "192.168.0.0",
    "192.168.0.1",
    "192.168.1.254",
    "192.168.255.255",
    "198.18.0.0",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.0",
    "198.51.100.7",
    "198.51.100.255",
    "203.0.113.0",
    "203.0.113.9",
    "203.0.113.255",
    "168.63.129.16",
    "224.0.0.0",
    "224.0.0.1",
    "224.0.0.251",
    "232.1.2.3",
    "239.255.255.250",
    "239.255.255.255",
    "240.0.0.0",
    "240.0.0.1",
    "250.250.250.250",
    "255.255.255.254",
    "255.255.255.255",
    "192.0.0.171",
];

/// Forbidden IPv6 targets.
const TARGETS_V6: [&str; 32] = [
    "::",
    "::1",
    "::2",
    "100::1",
    "64:ff9b::",
    "64:ff9b:1::1",
    "1000::1",
    "1fff::1",
    "2001::1",
    "2001:2::1",
    "2001:10::1",
    "2001:1f::1",
    "2001:40::1",
    "2001:db8::1",
    "2001:1ff::1",
    "2002::1",
    "3fff::1",
    "3fff:fff::1",
    "4000::1",
    "5f00::1",
    "8000::1",
    "fc00::1",
    "fd00::1",
    "fd00:ec2::254",
    "fe00::1",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "ffff::1",
    "::ffff:0:0",
];

pub(super) const CHECKS: &[Check] = &[
    house(
        "policy.permission.plain",
        "CreatePermission: 64 special IPv4 addresses are a 403",
        |t| permission(t, plain),
    ),
    house("policy.permission.mapped", "CreatePermission: as IPv4-mapped IPv6, 443", |t| {
        permission(t, mapped)
    }),
    house("policy.permission.compatible", "CreatePermission: as IPv4-compatible IPv6", |t| {
        permission(t, compatible)
    }),
    house("policy.permission.6to4", "CreatePermission: as 6to4", |t| permission(t, six_to_four)),
    house("policy.permission.teredo", "CreatePermission: as Teredo", |t| permission(t, teredo)),
    house("policy.permission.nat64", "CreatePermission: as NAT64", |t| permission(t, nat64)),
    house("policy.permission.local-nat64", "CreatePermission: as NAT64 of a local prefix", |t| {
        permission(t, local_nat64)
    }),
    house("policy.permission.siit", "CreatePermission: as SIIT", |t| permission(t, siit)),
    house("policy.permission.isatap", "CreatePermission: as ISATAP", |t| permission(t, isatap)),
    house("policy.permission.v6", "CreatePermission: 32 special IPv6 addresses", permission_v6),
    house("policy.channel.plain", "ChannelBind: 64 special IPv4 addresses are a 403", |t| {
        channel(t, plain)
    }),
    house("policy.channel.mapped", "ChannelBind: as IPv4-mapped IPv6, 443", |t| channel(t, mapped)),
    house("policy.channel.compatible", "ChannelBind: as IPv4-compatible IPv6", |t| {
        channel(t, compatible)
    }),
    house("policy.channel.6to4", "ChannelBind: as 6to4", |t| channel(t, six_to_four)),
    house("policy.channel.teredo", "ChannelBind: as Teredo", |t| channel(t, teredo)),
    house("policy.channel.nat64", "ChannelBind: as NAT64", |t| channel(t, nat64)),
    house("policy.channel.local-nat64", "ChannelBind: as NAT64 of a local prefix", |t| {
        channel(t, local_nat64)
    }),
    house("policy.channel.siit", "ChannelBind: as SIIT", |t| channel(t, siit)),
    house("policy.channel.isatap", "ChannelBind: as ISATAP", |t| channel(t, isatap)),
    house("policy.send", "Send: no special address in any encoding sees a packet", send).alone(),
    house("policy.good", "Public addresses may be peers", |t| {
        let mut client = t.client()?;
        let answer = client.ask(kind::ALLOCATE, super::auth::transport)?;
        client.took(&answer)?;
        for good in ["9.9.9.9", "1.1.1.1", "93.184.216.11", "223.255.255.254"] {
            let peer = SocketAddr::new(good.parse().expect("an address"), 9);
            let answer = super::permission::permit(&mut client, &[peer])?;
            want(answer.is_success(), &format!("{good} as a peer"), || answer.summary())?;
        }
        Ok(())
    }),
    house("policy.listener", "The server's own listening address is no peer", |t| {
        let mut client = t.client()?;
        let server = t.options.dialer.server;
        let family = if server.is_ipv6() { 2 } else { 1 };
        let answer = client.ask(kind::ALLOCATE, |w| {
            super::auth::transport(w).with(attribute::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0])
        })?;
        if answer.code() == Some(440) {
            return Err(skip("the server does not relay the family that it listens on"));
        }
        client.took(&answer)?;
        code(&client.bind(0x4000, server)?, &[403])
    }),
    house("policy.port-zero", "Port 0 is no peer", |t| {
        let (mut client, peer) = t.call()?;
        let nowhere = SocketAddr::new(peer.address().ip(), 0);
        code(&client.bind(0x4000, nowhere)?, &[400, 403])
    }),
];

type Encoding = fn(Ipv4Addr) -> IpAddr;

fn v6(segments: [u16; 8]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(segments))
}

fn halves(ip: Ipv4Addr) -> (u16, u16) {
    let [a, b, c, d] = ip.octets();
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

fn plain(ip: Ipv4Addr) -> IpAddr {
    ip.into()
}

fn mapped(ip: Ipv4Addr) -> IpAddr {
    let (high, low) = halves(ip);
    v6([0, 0, 0, 0, 0, 0xffff, high, low])
}

fn compatible(ip: Ipv4Addr) -> IpAddr {
    let (high, low) = halves(ip);
    v6([0, 0, 0, 0, 0, 0, high, low])
}

fn six_to_four(ip: Ipv4Addr) -> IpAddr {
    let (high, low) = halves(ip);
    v6([0x2002, high, low, 0, 0, 0, 0, 1])
}

fn teredo(ip: Ipv4Addr) -> IpAddr {
    let (high, low) = halves(ip);
    v6([0x2001, 0, 0x4136, 0xe378, 0x8000, 0x63bf, !high, !low])
}

fn nat64(ip: Ipv4Addr) -> IpAddr {
    let (high, low) = halves(ip);
    v6([0x64, 0xff9b, 0, 0, 0, 0, high, low])
}

fn local_nat64(ip: Ipv4Addr) -> IpAddr {
    let (high, low) = halves(ip);
    v6([0x64, 0xff9b, 1, 0, 0, 0, high, low])
}

fn siit(ip: Ipv4Addr) -> IpAddr {
    let (high, low) = halves(ip);
    v6([0, 0, 0, 0, 0xffff, 0, high, low])
}

fn isatap(ip: Ipv4Addr) -> IpAddr {
    let (high, low) = halves(ip);
    v6([0x2a03, 0xdead, 0, 0, 0x0200, 0x5efe, high, low])
}

const ENCODINGS: [Encoding; 9] =
    [plain, mapped, compatible, six_to_four, teredo, nat64, local_nat64, siit, isatap];

/// An allocation that has both families, where the server has them.
fn client<'t>(t: &'t Trial<'t>, v6: bool) -> Result<Client<'t>, Stop> {
    if v6 && t.facts.dual {
        return t.allocated_dual();
    }
    let mut client = t.client()?;
    let answer = client.ask(kind::ALLOCATE, super::auth::transport)?;
    client.took(&answer)?;
    Ok(client)
}

/// The targets, but for those that the server was told to allow as they are.
fn targets(t: &Trial<'_>, encode: Encoding) -> Vec<IpAddr> {
    let all = TARGETS.iter().map(|text| encode(text.parse().expect("an IPv4 address")));
    all.filter(|ip| !allowed(t, *ip)).collect()
}

fn allowed(t: &Trial<'_>, ip: IpAddr) -> bool {
    t.options.allowed.iter().any(|range| range.contains(&ip))
}

/// 443 for a mapped address, or for a family that the allocation has not; else 403.
fn expected(ip: IpAddr, dual: bool) -> &'static [u16] {
    match ip {
        IpAddr::V4(_) => &[403],
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => &[443],
        IpAddr::V6(_) if dual => &[403],
        IpAddr::V6(_) => &[443, 403],
    }
}

fn refused(
    t: &Trial<'_>,
    targets: &[IpAddr],
    write: impl Fn(&Client<'_>, usize, SocketAddr) -> Vec<u8>,
) -> Verdict {
    let mut client = client(t, targets.iter().any(IpAddr::is_ipv6))?;
    let peers = targets.iter().map(|ip| SocketAddr::new(*ip, 9));
    let requests: Vec<Vec<u8>> =
        peers.enumerate().map(|(at, peer)| write(&client, at, peer)).collect();
    let answers = client.volley(&requests)?;
    let mut wrong = Vec::new();
    for (ip, answer) in targets.iter().zip(answers) {
        let codes = expected(*ip, t.facts.dual);
        match answer {
            None => wrong.push(format!("{ip}: no answer")),
            Some(answer) if answer.is_success() => wrong.push(format!("{ip}: allowed")),
            Some(answer) if codes.contains(&answer.code().unwrap_or(0)) => {}
            Some(answer) => wrong.push(format!("{ip}: {}", answer.summary())),
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let shown = wrong.iter().take(6).cloned().collect::<Vec<_>>().join(", ");
    let what = format!("403 (443 for mapped ones) for all {}", targets.len());
    Err(fail(what, format!("{} otherwise: {shown}", wrong.len())))
}

fn by_permission(client: &Client<'_>, peer: SocketAddr) -> Vec<u8> {
    let w = client.write(kind::CREATE_PERMISSION);
    client.sign(w.with_xor_address(attribute::XOR_PEER_ADDRESS, peer)).bytes()
}

fn permission(t: &Trial<'_>, encode: Encoding) -> Verdict {
    refused(t, &targets(t, encode), |client, _, peer| by_permission(client, peer))
}

fn permission_v6(t: &Trial<'_>) -> Verdict {
    let all = TARGETS_V6.iter().map(|text| text.parse().expect("an IPv6 address"));
    let targets: Vec<IpAddr> = all.filter(|ip| !allowed(t, *ip)).collect();
    refused(t, &targets, |client, _, peer| by_permission(client, peer))
}

fn channel(t: &Trial<'_>, encode: Encoding) -> Verdict {
    refused(t, &targets(t, encode), |client, at, peer| {
        let number = (0x4000 + at as u32) << 16;
        let w = client
            .write(kind::CHANNEL_BIND)
            .with_u32(attribute::CHANNEL_NUMBER, number)
            .with_xor_address(attribute::XOR_PEER_ADDRESS, peer);
        client.sign(w).bytes()
    })
}

/// A socket on every address of this host, and Send indications to its port at every target, after
/// a try to have each permitted.
fn send(t: &Trial<'_>) -> Verdict {
    let canary = UdpSocket::bind("[::]:0").or_else(|_| UdpSocket::bind("0.0.0.0:0"));
    let canary = canary.map_err(|error| skip(format!("no socket for a canary: {error}")))?;
    let port = canary.local_addr().map_err(|error| skip(error.to_string()))?.port();
    let wait = Some(Duration::from_millis(200));
    canary.set_read_timeout(wait).map_err(|error| skip(error.to_string()))?;
    let mut client = client(t, true)?;
    for encode in ENCODINGS {
        let peers: Vec<SocketAddr> =
            targets(t, encode).into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        let requests: Vec<Vec<u8>> =
            peers.iter().map(|peer| by_permission(&client, *peer)).collect();
        client.volley(&requests)?;
        for peer in peers {
            client.send_data(peer, format!("canary for {}", peer.ip()).as_bytes())?;
        }
        client.sentinel()?;
    }
    let mut buffer = [0; 200];
    match canary.recv_from(&mut buffer) {
        Ok((len, source)) => {
            let said = String::from_utf8_lossy(&buffer[..len]).into_owned();
            Err(fail("no packet at any address of this host", format!("{said:?} from {source}")))
        }
        Err(_) => Ok(()),
    }
}
