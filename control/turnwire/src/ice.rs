//! What a browser wants to know of a TURN server: the `iceServers` member of an RTCConfiguration.

use std::net::{IpAddr, SocketAddr};

use dataplane::Transport;
use serde_json::json;

/// The URL of a server at `host`, which may end in a port.
///
/// # Errors
/// What was given is no host: in words.
pub fn url(host: &str) -> Result<String, String> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(udp_url(SocketAddr::new(ip, crate::config::PORT)));
    }
    if let Ok(address) = host.parse::<SocketAddr>() {
        return Ok(udp_url(address));
    }
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, port.parse::<u16>().ok().filter(|&port| port != 0)),
        None => (host, Some(crate::config::PORT)),
    };
    let named = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
    match port {
        Some(port) if !name.is_empty() && name.chars().all(named) => {
            Ok(format!("turn:{name}:{port}?transport=udp"))
        }
        _ => Err(format!("{host:?} is not HOST or HOST:PORT, such as turn.example.org:3478")),
    }
}

/// The URL of a server that is reached at this address by this transport (RFC 7065).
pub fn url_of(address: SocketAddr, transport: Transport) -> String {
    match transport {
        Transport::Udp => format!("turn:{address}?transport=udp"),
        Transport::Tcp => format!("turn:{address}?transport=tcp"),
        Transport::Tls => format!("turns:{address}?transport=tcp"),
        Transport::Dtls => format!("turns:{address}?transport=udp"),
    }
}

/// The URL of a server that is reached at this address by UDP.
pub fn udp_url(address: SocketAddr) -> String {
    url_of(address, Transport::Udp)
}

/// The block, ready to paste.
pub fn servers_block(urls: &[String], username: &str, credential: &str) -> String {
    let server = json!({ "urls": urls, "username": username, "credential": credential });
    let block = json!({ "iceServers": [server] });
    // A value made of texts alone always has a text.
    serde_json::to_string_pretty(&block).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_becomes_a_turn_url_with_its_port() {
        for (host, expected) in [
            ("turn.example.org", "turn:turn.example.org:3478?transport=udp"),
            ("turn.example.org:443", "turn:turn.example.org:443?transport=udp"),
            ("192.0.2.7", "turn:192.0.2.7:3478?transport=udp"),
            ("2001:db8::7", "turn:[2001:db8::7]:3478?transport=udp"),
            ("[2001:db8::7]:5000", "turn:[2001:db8::7]:5000?transport=udp"),
        ] {
            assert_eq!(url(host).as_deref(), Ok(expected));
        }
        for wrong in ["", "a b", "host:0", "host:x", "turn:host"] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_block_is_json_with_one_server() {
        let block = servers_block(&["turn:h:1".into()], "a", "b\"c");
        let value: serde_json::Value = serde_json::from_str(&block).expect("JSON");
        assert_eq!(value["iceServers"][0]["credential"], "b\"c");
        assert_eq!(value["iceServers"][0]["urls"][0], "turn:h:1");
    }
}
