//! Typed writers, one for each attribute that has a value.
//!
//! Text that is too long makes [`Builder::finish`] fail with [`BuildError::TooLong`]; nothing is
//! cut short silently.

use std::net::SocketAddr;

use super::{BuildError, Builder};
use crate::attribute::{
    AttributeType, ChangeRequest, ChannelNumber, Code, DOMAIN_MAX, Family, Icmp, PasswordAlgorithm,
    TEXT_WRITE_MAX, USERNAME_WRITE_MAX, encode_address, encode_xor_address,
};

impl Builder<'_> {
    fn text(&mut self, kind: AttributeType, value: &[u8], max: usize) -> &mut Self {
        if value.len() > max {
            return self.fail(BuildError::TooLong(kind));
        }
        self.attribute(kind, value)
    }

    fn xor_address(&mut self, kind: AttributeType, address: SocketAddr) -> &mut Self {
        let (value, len) = encode_xor_address(address, self.transaction());
        self.attribute(kind, &value[..len])
    }

    fn plain_address(&mut self, kind: AttributeType, address: SocketAddr) -> &mut Self {
        let (value, len) = encode_address(address);
        self.attribute(kind, &value[..len])
    }

    /// USERNAME, at most 508 bytes, prepared (RFC 8265).
    pub fn username(&mut self, username: &str) -> &mut Self {
        self.text(AttributeType::USERNAME, username.as_bytes(), USERNAME_WRITE_MAX)
    }

    /// USERHASH.
    pub fn userhash(&mut self, userhash: &[u8; 32]) -> &mut Self {
        self.attribute(AttributeType::USERHASH, userhash)
    }

    /// REALM, at most 509 bytes, prepared (RFC 8265).
    pub fn realm(&mut self, realm: &str) -> &mut Self {
        self.text(AttributeType::REALM, realm.as_bytes(), TEXT_WRITE_MAX)
    }

    /// NONCE, at most 509 bytes. An echo is the bytes that came.
    pub fn nonce(&mut self, nonce: &[u8]) -> &mut Self {
        self.text(AttributeType::NONCE, nonce, TEXT_WRITE_MAX)
    }

    /// SOFTWARE, at most 509 bytes.
    pub fn software(&mut self, software: &str) -> &mut Self {
        self.text(AttributeType::SOFTWARE, software.as_bytes(), TEXT_WRITE_MAX)
    }

    /// PASSWORD-ALGORITHM.
    pub fn password_algorithm(&mut self, algorithm: PasswordAlgorithm) -> &mut Self {
        self.attribute(AttributeType::PASSWORD_ALGORITHM, &algorithm.encode())
    }

    /// PASSWORD-ALGORITHMS, in the server's order of preference; at most 8 are written.
    pub fn password_algorithms(&mut self, algorithms: &[PasswordAlgorithm]) -> &mut Self {
        let mut value = [[0; 4]; 8];
        let entries = value.iter_mut().zip(algorithms);
        let count = entries.map(|(entry, algorithm)| *entry = algorithm.encode()).count();
        self.attribute(AttributeType::PASSWORD_ALGORITHMS, value[..count].as_flattened())
    }

    /// PASSWORD-ALGORITHMS as a client echoes it: the bytes that came.
    pub fn password_algorithms_echo(&mut self, value: &[u8]) -> &mut Self {
        self.attribute(AttributeType::PASSWORD_ALGORITHMS, value)
    }

    /// ERROR-CODE with the recommended reason phrase.
    pub fn error_code(&mut self, code: Code) -> &mut Self {
        self.error_code_reason(code, code.reason())
    }

    /// ERROR-CODE with a reason phrase of at most 509 bytes; an empty one keeps it short.
    pub fn error_code_reason(&mut self, code: Code, reason: &str) -> &mut Self {
        let [class, number] = code.encode();
        self.coded(AttributeType::ERROR_CODE, [0, 0, class, number], reason)
    }

    /// ADDRESS-ERROR-CODE with the recommended reason phrase.
    pub fn address_error_code(&mut self, family: Family, code: Code) -> &mut Self {
        let [class, number] = code.encode();
        let kind = AttributeType::ADDRESS_ERROR_CODE;
        self.coded(kind, [family.code(), 0, class, number], code.reason())
    }

    fn coded(&mut self, kind: AttributeType, head: [u8; 4], reason: &str) -> &mut Self {
        if reason.len() > TEXT_WRITE_MAX {
            return self.fail(BuildError::TooLong(kind));
        }
        self.attribute_parts(kind, &[&head, reason.as_bytes()])
    }

    /// UNKNOWN-ATTRIBUTES: at most 32 types, which bounds the response.
    pub fn unknown_attributes(
        &mut self,
        types: impl IntoIterator<Item = AttributeType>,
    ) -> &mut Self {
        let mut value = [[0; 2]; 32];
        let entries = value.iter_mut().zip(types);
        let count = entries.map(|(entry, kind)| *entry = kind.0.to_be_bytes()).count();
        self.attribute(AttributeType::UNKNOWN_ATTRIBUTES, value[..count].as_flattened())
    }

    /// MAPPED-ADDRESS.
    pub fn mapped_address(&mut self, address: SocketAddr) -> &mut Self {
        self.plain_address(AttributeType::MAPPED_ADDRESS, address)
    }

    /// XOR-MAPPED-ADDRESS.
    pub fn xor_mapped_address(&mut self, address: SocketAddr) -> &mut Self {
        self.xor_address(AttributeType::XOR_MAPPED_ADDRESS, address)
    }

    /// XOR-PEER-ADDRESS.
    pub fn xor_peer_address(&mut self, address: SocketAddr) -> &mut Self {
        self.xor_address(AttributeType::XOR_PEER_ADDRESS, address)
    }

    /// XOR-RELAYED-ADDRESS.
    pub fn xor_relayed_address(&mut self, address: SocketAddr) -> &mut Self {
        self.xor_address(AttributeType::XOR_RELAYED_ADDRESS, address)
    }

    /// ALTERNATE-SERVER.
    pub fn alternate_server(&mut self, address: SocketAddr) -> &mut Self {
        self.plain_address(AttributeType::ALTERNATE_SERVER, address)
    }

    /// ALTERNATE-DOMAIN, at most 255 bytes.
    pub fn alternate_domain(&mut self, domain: &str) -> &mut Self {
        self.text(AttributeType::ALTERNATE_DOMAIN, domain.as_bytes(), DOMAIN_MAX)
    }

    /// CHANNEL-NUMBER.
    pub fn channel_number(&mut self, channel: ChannelNumber) -> &mut Self {
        let [high, low] = channel.number().to_be_bytes();
        self.attribute(AttributeType::CHANNEL_NUMBER, &[high, low, 0, 0])
    }

    /// LIFETIME in seconds.
    pub fn lifetime_secs(&mut self, lifetime_secs: u32) -> &mut Self {
        self.attribute(AttributeType::LIFETIME, &lifetime_secs.to_be_bytes())
    }

    /// DATA.
    pub fn data(&mut self, data: &[u8]) -> &mut Self {
        self.attribute(AttributeType::DATA, data)
    }

    /// REQUESTED-TRANSPORT: 17 is UDP.
    pub fn requested_transport(&mut self, protocol: u8) -> &mut Self {
        self.attribute(AttributeType::REQUESTED_TRANSPORT, &[protocol, 0, 0, 0])
    }

    /// REQUESTED-ADDRESS-FAMILY.
    pub fn requested_address_family(&mut self, family: Family) -> &mut Self {
        self.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[family.code(), 0, 0, 0])
    }

    /// ADDITIONAL-ADDRESS-FAMILY.
    pub fn additional_address_family(&mut self, family: Family) -> &mut Self {
        self.attribute(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[family.code(), 0, 0, 0])
    }

    /// EVEN-PORT, with the R bit when the next higher port is to be reserved.
    pub fn even_port(&mut self, reserve_next: bool) -> &mut Self {
        self.attribute(AttributeType::EVEN_PORT, &[u8::from(reserve_next) << 7])
    }

    /// RESERVATION-TOKEN.
    pub fn reservation_token(&mut self, token: &[u8; 8]) -> &mut Self {
        self.attribute(AttributeType::RESERVATION_TOKEN, token)
    }

    /// DONT-FRAGMENT.
    pub fn dont_fragment(&mut self) -> &mut Self {
        self.attribute(AttributeType::DONT_FRAGMENT, &[])
    }

    /// CONNECTION-ID (RFC 6062).
    pub fn connection_id(&mut self, id: u32) -> &mut Self {
        self.attribute(AttributeType::CONNECTION_ID, &id.to_be_bytes())
    }

    /// MOBILITY-TICKET (RFC 8016); empty to ask for one.
    pub fn mobility_ticket(&mut self, ticket: &[u8]) -> &mut Self {
        self.attribute(AttributeType::MOBILITY_TICKET, ticket)
    }

    /// ACCESS-TOKEN (RFC 7635).
    pub fn access_token(&mut self, token: &[u8]) -> &mut Self {
        self.attribute(AttributeType::ACCESS_TOKEN, token)
    }

    /// THIRD-PARTY-AUTHORIZATION (RFC 7635), at most 509 bytes.
    pub fn third_party_authorization(&mut self, server: &str) -> &mut Self {
        self.text(AttributeType::THIRD_PARTY_AUTHORIZATION, server.as_bytes(), TEXT_WRITE_MAX)
    }

    /// CHANGE-REQUEST (RFC 5780).
    pub fn change_request(&mut self, change: ChangeRequest) -> &mut Self {
        self.attribute(AttributeType::CHANGE_REQUEST, &change.encode())
    }

    /// RESPONSE-PORT (RFC 5780), with its two bytes of padding outside the value.
    pub fn response_port(&mut self, port: u16) -> &mut Self {
        self.attribute(AttributeType::RESPONSE_PORT, &port.to_be_bytes())
    }

    /// PADDING (RFC 5780): so many zeros, at most 2048.
    pub fn padding(&mut self, len: usize) -> &mut Self {
        const ZEROS: [u8; 2048] = [0; 2048];
        match ZEROS.get(..len) {
            Some(zeros) => self.attribute(AttributeType::PADDING, zeros),
            None => self.fail(BuildError::TooLong(AttributeType::PADDING)),
        }
    }

    /// RESPONSE-ORIGIN (RFC 5780).
    pub fn response_origin(&mut self, address: SocketAddr) -> &mut Self {
        self.plain_address(AttributeType::RESPONSE_ORIGIN, address)
    }

    /// OTHER-ADDRESS (RFC 5780).
    pub fn other_address(&mut self, address: SocketAddr) -> &mut Self {
        self.plain_address(AttributeType::OTHER_ADDRESS, address)
    }

    /// ICMP.
    pub fn icmp(&mut self, icmp: Icmp) -> &mut Self {
        self.attribute(AttributeType::ICMP, &icmp.encode())
    }
}
