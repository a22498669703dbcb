//! Rules as an operator writes them: `10.1.0.0/16`, `2001:db8::/32`, or a bare address.

use std::net::IpAddr;

use ipnet::IpNet;

/// A rule that does not parse, with what would be right. It stops the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(String);

impl RuleError {
    pub(super) fn profile(text: &str) -> Self {
        Self(format!("peer policy '{text}' is unknown: write 'public' or 'lan'"))
    }
}

/// Reads one rule of an allow or deny list.
///
/// A bare address is the rule of that one address. Host bits after the prefix are an error rather
/// than silently cleared, and so is an IPv4 address written as IPv6, which would never match.
pub fn parse_rule(text: &str) -> Result<IpNet, RuleError> {
    let example = "write a range such as 10.1.0.0/16 or 2001:db8::/32, or one address";
    let wrong = |why: String| RuleError(format!("peer rule '{text}': {why}"));
    let net = match text.parse::<IpAddr>() {
        Ok(ip) => IpNet::from(ip),
        Err(_) => {
            let Some((address, len)) = text.split_once('/') else {
                return Err(wrong(format!("this is no address and has no '/'; {example}")));
            };
            let Ok(ip) = address.parse::<IpAddr>() else {
                return Err(wrong(format!("'{address}' is no IP address; {example}")));
            };
            let max = if ip.is_ipv4() { 32 } else { 128 };
            let digits = !len.is_empty() && len.bytes().all(|b| b.is_ascii_digit());
            let len = len.parse::<u8>().ok().filter(|_| digits);
            match len.and_then(|len| IpNet::new(ip, len).ok()) {
                Some(net) => net,
                None => {
                    let why = format!("the prefix length must be 0 to {max}; {example}");
                    return Err(wrong(why));
                }
            }
        }
    };
    if net.addr() != net.network() {
        return Err(wrong(format!("it has bits set after its prefix; write {}", net.trunc())));
    }
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.network().to_ipv4_mapped()
        && v6.prefix_len() >= 96
    {
        let right = format!("{v4}/{}", v6.prefix_len() - 96);
        return Err(wrong(format!("an IPv4 range is written as IPv4; write {right}")));
    }
    Ok(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_do_not_parse_are_named_and_put_right() {
        for (text, says) in [
            ("10.0.0.1/8", "write 10.0.0.0/8"),
            ("10.0.0.0/33", "0 to 32"),
            ("10.0.0.0/+8", "0 to 32"),
            ("10.0.0.0/", "0 to 32"),
            ("2001:db8::/129", "0 to 128"),
            ("10.0.0/8", "'10.0.0' is no IP address"),
            ("example.org", "no address"),
            ("", "no address"),
            (" 10.0.0.0/8", "is no IP address"),
            ("::ffff:10.0.0.0/104", "write 10.0.0.0/8"),
            ("::ffff:10.0.0.1", "write 10.0.0.1/32"),
            ("10.0.0.0-10.0.0.9", "no address"),
        ] {
            let error = parse_rule(text).expect_err(text).to_string();
            assert!(error.contains(says) && error.contains(text), "{text}: {error}");
        }
    }

    #[test]
    fn ranges_and_bare_addresses_parse() {
        for (text, net) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("fd00::1", "fd00::1/128"),
            ("::/0", "::/0"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(parse_rule(text).expect(text).to_string(), net);
        }
    }
}
