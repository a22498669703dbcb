//! Typed getters: one attribute each, checked against its format when it is asked for.
//!
//! All return `Ok(None)` when the attribute is absent, and [`Malformed`] (a 400 in a request)
//! when it breaks its format. Of several of one type the first is read.

use std::net::SocketAddr;

use super::Message;
use crate::attribute::{
    AddressErrorCode, AttributeType, ChangeRequest, ChannelNumber, DOMAIN_MAX, ErrorCode, Family,
    Fault, Icmp, Malformed, PasswordAlgorithm, PasswordAlgorithms, TEXT_READ_MAX, decode_address,
    decode_xor_address,
};

type Get<T> = Result<Option<T>, Malformed>;

impl<'a> Message<'a> {
    fn get<T>(
        &self,
        kind: AttributeType,
        decode: impl FnOnce(&'a [u8]) -> Result<T, Fault>,
    ) -> Get<T> {
        self.attribute(kind).map(decode).transpose().map_err(|fault| fault.of(kind))
    }

    /// Every attribute of this type, in order.
    fn get_all<T>(
        &self,
        kind: AttributeType,
        decode: impl Fn(&'a [u8]) -> Result<T, Fault>,
    ) -> impl Iterator<Item = Result<T, Malformed>> {
        self.attributes()
            .filter(move |attribute| attribute.kind == kind)
            .map(move |attribute| decode(attribute.value).map_err(|fault| fault.of(kind)))
    }

    /// USERNAME: UTF-8 of at most 763 bytes.
    pub fn username(&self) -> Get<&'a str> {
        self.get(AttributeType::USERNAME, text)
    }

    /// USERHASH: SHA-256(username ":" realm).
    pub fn userhash(&self) -> Get<&'a [u8; 32]> {
        self.get(AttributeType::USERHASH, fixed)
    }

    /// REALM: UTF-8 of at most 763 bytes.
    pub fn realm(&self) -> Get<&'a str> {
        self.get(AttributeType::REALM, text)
    }

    /// NONCE: at most 763 bytes, opaque to all but its server.
    pub fn nonce(&self) -> Get<&'a [u8]> {
        self.get(AttributeType::NONCE, |value| limited(value, TEXT_READ_MAX))
    }

    /// SOFTWARE: UTF-8 of at most 763 bytes.
    pub fn software(&self) -> Get<&'a str> {
        self.get(AttributeType::SOFTWARE, text)
    }

    /// PASSWORD-ALGORITHM; the inner `None` is an algorithm that is not supported here.
    pub fn password_algorithm(&self) -> Get<Option<PasswordAlgorithm>> {
        self.get(AttributeType::PASSWORD_ALGORITHM, PasswordAlgorithm::decode)
    }

    /// PASSWORD-ALGORITHMS.
    pub fn password_algorithms(&self) -> Get<PasswordAlgorithms<'a>> {
        self.get(AttributeType::PASSWORD_ALGORITHMS, PasswordAlgorithms::decode)
    }

    /// ERROR-CODE.
    pub fn error_code(&self) -> Get<ErrorCode<'a>> {
        self.get(AttributeType::ERROR_CODE, ErrorCode::decode)
    }

    /// UNKNOWN-ATTRIBUTES: the types that the server did not know.
    pub fn unknown_attributes(&self) -> Get<impl Iterator<Item = AttributeType> + use<'a>> {
        self.get(AttributeType::UNKNOWN_ATTRIBUTES, |value| match value.as_chunks() {
            (types, []) => Ok(types.iter().map(|&kind| AttributeType(u16::from_be_bytes(kind)))),
            _ => Err(Fault::Length(value.len())),
        })
    }

    /// MAPPED-ADDRESS.
    pub fn mapped_address(&self) -> Get<SocketAddr> {
        self.get(AttributeType::MAPPED_ADDRESS, decode_address)
    }

    /// XOR-MAPPED-ADDRESS.
    pub fn xor_mapped_address(&self) -> Get<SocketAddr> {
        self.xor_address(AttributeType::XOR_MAPPED_ADDRESS)
    }

    /// The first XOR-PEER-ADDRESS.
    pub fn xor_peer_address(&self) -> Get<SocketAddr> {
        self.xor_address(AttributeType::XOR_PEER_ADDRESS)
    }

    /// Every XOR-PEER-ADDRESS, in order: CreatePermission may have several.
    pub fn xor_peer_addresses(&self) -> impl Iterator<Item = Result<SocketAddr, Malformed>> {
        let transaction = self.transaction();
        self.get_all(AttributeType::XOR_PEER_ADDRESS, move |value| {
            decode_xor_address(value, transaction)
        })
    }

    /// The first XOR-RELAYED-ADDRESS.
    pub fn xor_relayed_address(&self) -> Get<SocketAddr> {
        self.xor_address(AttributeType::XOR_RELAYED_ADDRESS)
    }

    /// Every XOR-RELAYED-ADDRESS, in order: a dual allocation has two.
    pub fn xor_relayed_addresses(&self) -> impl Iterator<Item = Result<SocketAddr, Malformed>> {
        let transaction = self.transaction();
        self.get_all(AttributeType::XOR_RELAYED_ADDRESS, move |value| {
            decode_xor_address(value, transaction)
        })
    }

    fn xor_address(&self, kind: AttributeType) -> Get<SocketAddr> {
        let transaction = self.transaction();
        self.get(kind, |value| decode_xor_address(value, transaction))
    }

    /// ALTERNATE-SERVER.
    pub fn alternate_server(&self) -> Get<SocketAddr> {
        self.get(AttributeType::ALTERNATE_SERVER, decode_address)
    }

    /// ALTERNATE-DOMAIN: at most 255 bytes.
    pub fn alternate_domain(&self) -> Get<&'a str> {
        self.get(AttributeType::ALTERNATE_DOMAIN, |value| limited(value, DOMAIN_MAX).and_then(text))
    }

    /// CHANNEL-NUMBER; a number outside 0x4000 to 0x4FFF is [`Fault::ChannelNumber`].
    pub fn channel_number(&self) -> Get<ChannelNumber> {
        self.get(AttributeType::CHANNEL_NUMBER, ChannelNumber::decode)
    }

    /// LIFETIME in seconds.
    pub fn lifetime_secs(&self) -> Get<u32> {
        self.get(AttributeType::LIFETIME, |value| fixed(value).map(|&v| u32::from_be_bytes(v)))
    }

    /// DATA: the peer's or the client's datagram.
    pub fn data(&self) -> Option<&'a [u8]> {
        self.attribute(AttributeType::DATA)
    }

    /// REQUESTED-TRANSPORT's protocol number: 17 is UDP.
    pub fn requested_transport(&self) -> Get<u8> {
        self.get(AttributeType::REQUESTED_TRANSPORT, |value| fixed::<4>(value).map(|v| v[0]))
    }

    /// REQUESTED-ADDRESS-FAMILY; a family that nobody knows is [`Fault::Family`] (440).
    pub fn requested_address_family(&self) -> Get<Family> {
        self.get(AttributeType::REQUESTED_ADDRESS_FAMILY, family)
    }

    /// ADDITIONAL-ADDRESS-FAMILY. Only IPv6 is valid in a request (RFC 8656 section 18.11),
    /// which the caller checks.
    pub fn additional_address_family(&self) -> Get<Family> {
        self.get(AttributeType::ADDITIONAL_ADDRESS_FAMILY, family)
    }

    /// ADDRESS-ERROR-CODE.
    pub fn address_error_code(&self) -> Get<AddressErrorCode<'a>> {
        self.get(AttributeType::ADDRESS_ERROR_CODE, AddressErrorCode::decode)
    }

    /// EVEN-PORT's R bit: whether the next higher port is to be reserved.
    pub fn even_port(&self) -> Get<bool> {
        self.get(AttributeType::EVEN_PORT, |value| fixed::<1>(value).map(|v| v[0] & 0x80 != 0))
    }

    /// RESERVATION-TOKEN.
    pub fn reservation_token(&self) -> Get<[u8; 8]> {
        self.get(AttributeType::RESERVATION_TOKEN, |value| fixed(value).copied())
    }

    /// DONT-FRAGMENT, which has no value: whether it is there.
    ///
    /// # Errors
    /// [`Malformed`] if it has a value.
    pub fn dont_fragment(&self) -> Result<bool, Malformed> {
        let unit = self.get(AttributeType::DONT_FRAGMENT, fixed::<0>)?;
        Ok(unit.is_some())
    }

    /// CONNECTION-ID (RFC 6062).
    pub fn connection_id(&self) -> Get<u32> {
        self.get(AttributeType::CONNECTION_ID, |value| fixed(value).map(|&v| u32::from_be_bytes(v)))
    }

    /// MOBILITY-TICKET (RFC 8016): empty when a client asks for one, else opaque to all but its
    /// server.
    pub fn mobility_ticket(&self) -> Option<&'a [u8]> {
        self.attribute(AttributeType::MOBILITY_TICKET)
    }

    /// ACCESS-TOKEN (RFC 7635): opaque to the client, see [`crate::credentials::ThirdParty`].
    pub fn access_token(&self) -> Option<&'a [u8]> {
        self.attribute(AttributeType::ACCESS_TOKEN)
    }

    /// THIRD-PARTY-AUTHORIZATION (RFC 7635): the server's name to its authorization server, at most
    /// 763 bytes.
    pub fn third_party_authorization(&self) -> Get<&'a str> {
        self.get(AttributeType::THIRD_PARTY_AUTHORIZATION, text)
    }

    /// CHANGE-REQUEST (RFC 5780).
    pub fn change_request(&self) -> Get<ChangeRequest> {
        self.get(AttributeType::CHANGE_REQUEST, ChangeRequest::decode)
    }

    /// RESPONSE-PORT (RFC 5780). Its two bytes of padding may be counted or not: both are seen.
    pub fn response_port(&self) -> Get<u16> {
        self.get(AttributeType::RESPONSE_PORT, |value| match *value {
            [high, low] | [high, low, _, _] => Ok(u16::from_be_bytes([high, low])),
            _ => Err(Fault::Length(value.len())),
        })
    }

    /// PADDING (RFC 5780): its content does not count.
    pub fn padding(&self) -> Option<&'a [u8]> {
        self.attribute(AttributeType::PADDING)
    }

    /// RESPONSE-ORIGIN (RFC 5780).
    pub fn response_origin(&self) -> Get<SocketAddr> {
        self.get(AttributeType::RESPONSE_ORIGIN, decode_address)
    }

    /// OTHER-ADDRESS (RFC 5780).
    pub fn other_address(&self) -> Get<SocketAddr> {
        self.get(AttributeType::OTHER_ADDRESS, decode_address)
    }

    /// ICMP.
    pub fn icmp(&self) -> Get<Icmp> {
        self.get(AttributeType::ICMP, Icmp::decode)
    }
}

fn limited(value: &[u8], max: usize) -> Result<&[u8], Fault> {
    if value.len() <= max { Ok(value) } else { Err(Fault::Length(value.len())) }
}

fn text(value: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(limited(value, TEXT_READ_MAX)?).map_err(|_| Fault::Utf8)
}

fn fixed<const N: usize>(value: &[u8]) -> Result<&[u8; N], Fault> {
    value.try_into().map_err(|_| Fault::Length(value.len()))
}

fn family(value: &[u8]) -> Result<Family, Fault> {
    fixed::<4>(value).and_then(|value| Family::from_code(value[0]))
}
