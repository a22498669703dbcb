//! One parser for each kind of value. An error says what would be right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

use turn::credentials::Credentials;
use turn::policy::Profile;

use super::{AfXdp, External, XdpForward, XdpMode};
use crate::log::LogFormat;
use crate::settings::secrets::Secret;

/// Linux's IFNAMSIZ without its ending zero.
const INTERFACE_BYTES_MAX: usize = 15;
/// The longest name that DNS has.
const DOMAIN_BYTES_MAX: usize = 253;
/// No machine numbers its cores higher.
const CORE_MAX: usize = 8191;

/// An address and port to listen on.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.ip() {
            ip if ip.is_multicast() || ip == Ipv4Addr::BROADCAST => {
                Err("is not an address of one host".to_owned())
            }
            IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
                Err("is IPv4 in disguise; write it as IPv4".to_owned())
            }
            _ => Ok(address),
        };
    }
    if let Some((Ok(ip), port)) = text.rsplit_once(':').map(|(ip, port)| (ip.parse(), port))
        && port.parse::<u16>().is_ok_and(|port| port > 999)
    {
        let ip: Ipv6Addr = ip;
        return Err(format!("is one address; if {port} is its port, write [{ip}]:{port}"));
    }
    Err(match text.parse::<IpAddr>() {
        Ok(ip) => format!("needs a port, such as {}", SocketAddr::new(ip, 3478)),
        Err(_) => "is not ADDR:PORT, such as 0.0.0.0:3478 or [::]:3478".to_owned(),
    })
}

/// Where the admin server listens; `off` for nowhere.
pub fn admin(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| "is neither ADDR:PORT, such as 127.0.0.1:9641, nor off".to_owned())
}

/// An address that relayed transport addresses can have.
pub fn relay_ip(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = match text.parse() {
        Ok(ip) => ip,
        Err(_) if text.parse::<SocketAddr>().is_ok() => {
            return Err("has a port; give the address alone (ports are relay-ports)".to_owned());
        }
        Err(_) => return Err("is not an IP address, such as 198.51.100.7".to_owned()),
    };
    usable_ip(ip)
}

fn usable_ip(ip: IpAddr) -> Result<IpAddr, String> {
    if ip.is_unspecified() {
        return Err("stands for every address; name one of this host".to_owned());
    }
    if ip.is_multicast() || ip == Ipv4Addr::BROADCAST {
        return Err("is not an address of one host".to_owned());
    }
    match ip {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err("is IPv4 in disguise; write it as IPv4".to_owned())
        }
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            Err("is link-local, which peers elsewhere cannot reach".to_owned())
        }
        _ => Ok(ip),
    }
}

/// `PUB` or `PUB=PRIV`.
pub fn external(text: &str) -> Result<External, String> {
    let ip = |text: &str| {
        let parsed = text.parse::<IpAddr>();
        let ip = parsed
            .map_err(|_| "is not PUB or PUB=PRIV, such as 198.51.100.7=10.0.0.7".to_owned())?;
        usable_ip(ip)
    };
    let Some((public, private)) = text.split_once('=') else {
        return Ok(External { public: ip(text)?, private: None });
    };
    let (public, private) = (ip(public)?, ip(private)?);
    if public.is_ipv4() != private.is_ipv4() {
        return Err("pairs addresses of two families".to_owned());
    }
    Ok(External { public, private: Some(private) })
}

/// `LO-HI`.
pub fn relay_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = "is not LO-HI with 1024 <= LO <= HI <= 65535, such as 49152-65535";
    let (low, high) = text.split_once('-').ok_or(wrong)?;
    let low: u16 = low.trim().parse().map_err(|_| wrong)?;
    let high: u16 = high.trim().parse().map_err(|_| wrong)?;
    if low < 1024 || low > high {
        return Err(wrong.to_owned());
    }
    Ok(low..=high)
}

/// The realm of the long-term credentials, still without users.
pub fn realm(text: &str) -> Result<Credentials, String> {
    if text.is_empty() || text.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
        return Err("is not a realm: give a name, such as example.org, without quotes, \
                    backslashes or control characters"
            .to_owned());
    }
    Credentials::new(text).map_err(|wrong| format!("is not a realm: {wrong}"))
}

/// A secret shared with whoever hands out time-limited credentials.
pub fn auth_secret(text: &str) -> Result<Secret, String> {
    if text.is_empty() {
        return Err("the secret is empty".to_owned());
    }
    Ok(Secret::new(text))
}

/// `public` or `lan`.
pub fn peer_policy(text: &str) -> Result<Profile, String> {
    text.parse().map_err(|_| "is neither public nor lan".to_owned())
}

/// A range of addresses; a bare address is a range of one.
pub fn cidr(text: &str) -> Result<IpNet, String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip));
    }
    let net: IpNet =
        text.parse().map_err(|_| "is not a range of addresses, such as 10.20.0.0/16".to_owned())?;
    if net.trunc() != net {
        return Err(format!("has bits beyond its prefix; did you mean {}?", net.trunc()));
    }
    Ok(net)
}

/// The name of a network interface.
pub fn interface(text: &str) -> Result<String, String> {
    let good = !text.is_empty()
        && text.len() <= INTERFACE_BYTES_MAX
        && !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/');
    good.then(|| text.to_owned()).ok_or_else(|| "is not an interface's name, such as eth0".into())
}

/// `auto`, `native`, `generic` or `off`.
pub fn xdp_mode(text: &str) -> Result<XdpMode, String> {
    match text {
        "auto" => Ok(XdpMode::Auto),
        "native" => Ok(XdpMode::Native),
        "generic" => Ok(XdpMode::Generic),
        "off" => Ok(XdpMode::Off),
        _ => Err("is none of auto, native, generic and off".to_owned()),
    }
}

/// Who forwards channel traffic on the fast path.
pub fn xdp_forward(text: &str) -> Result<XdpForward, String> {
    match text {
        "kernel" => Ok(XdpForward::Kernel),
        "workers" => Ok(XdpForward::Workers),
        _ => Err("is neither kernel nor workers".to_owned()),
    }
}

/// Whether workers get frames by AF_XDP.
pub fn af_xdp(text: &str) -> Result<AfXdp, String> {
    match text {
        "auto" => Ok(AfXdp::Auto),
        "copy" => Ok(AfXdp::Copy),
        "zero-copy" => Ok(AfXdp::ZeroCopy),
        "off" => Ok(AfXdp::Off),
        _ => Err("is none of auto, copy, zero-copy and off".to_owned()),
    }
}

/// One core, or `LO-HI`.
pub fn cores(text: &str) -> Result<Vec<usize>, String> {
    let wrong = "is not a list of cores, such as 0,2-3";
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let low: usize = low.trim().parse().map_err(|_| wrong)?;
    let high: usize = high.trim().parse().map_err(|_| wrong)?;
    if low > high || high > CORE_MAX {
        return Err(wrong.to_owned());
    }
    Ok((low..=high).collect())
}

/// `true` or `false`.
pub fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "is neither true nor false".to_owned())
}

/// An address of one host, with a port.
pub fn one_address(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "is not ADDR:PORT, such as 198.51.100.8:3479 or [2001:db8::8]:3479")?;
    if address.port() == 0 {
        return Err("has no port; 0 stands for any".to_owned());
    }
    usable_ip(address.ip()).map(|_| address)
}

/// The name of a host, as in a certificate.
pub fn domain(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty() && label.len() <= 63 && label.chars().all(good)
    };
    let good = text.len() <= DOMAIN_BYTES_MAX && text.split('.').all(label);
    good.then(|| text.to_owned())
        .ok_or_else(|| "is not the name of a host, such as turn2.example.org".to_owned())
}

/// What SOFTWARE says (RFC 8489 section 14.14: fewer than 128 characters).
pub fn software(text: &str) -> Result<String, String> {
    let good =
        !text.is_empty() && text.chars().count() < 128 && !text.chars().any(char::is_control);
    good.then(|| text.to_owned())
        .ok_or_else(|| "is not a text of 1 to 127 characters without controls".to_owned())
}

/// A whole number in `range`.
pub fn number(text: &str, range: &RangeInclusive<usize>) -> Result<usize, String> {
    let digits = text.replace('_', "");
    match digits.parse::<usize>() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("is not a whole number from {} to {}", range.start(), range.end())),
    }
}

/// `text` or `json`.
pub fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("is neither text nor json".to_owned()),
    }
}
