//! Control messages.

use core::net::{Ipv6Addr, SocketAddr};

use nic_wire::control::{
    BadControl, ControlReply, ControlRequest, MAX_CONTROL_BYTES, decode, encode,
};
use nic_wire::session::Geometry;
use serde::{Serialize, de::DeserializeOwned};

use crate::ITERATIONS;
use crate::mutation::{Mutation, mutate};

/// What any message can be made of.
#[derive(Clone, Debug, bolero::TypeGenerator)]
struct Parts {
    kind: u8,
    numbers: [u32; 4],
    long: u64,
    longer: u64,
    text: String,
    bytes: Vec<u8>,
    address: [u8; 16],
    port: u16,
}

impl Parts {
    fn address(&self) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::from(self.address).into(), self.port)
    }

    fn rkey(&self) -> (u16, u16, u64) {
        (self.numbers[0] as u16, self.numbers[1] as u16, self.long)
    }

    fn request(&self) -> ControlRequest {
        let [depth, arena_bytes, receive_buffers, receive_buffer_bytes] = self.numbers;
        let (session, region) = (depth, arena_bytes as u8);
        match self.kind % 14 {
            0 => ControlRequest::Hello {
                layout_version: depth,
                name: self.text.clone(),
                engine: self.bytes.first().copied(),
            },
            1 => ControlRequest::OpenSession {
                geometry: Geometry { depth, arena_bytes, receive_buffers, receive_buffer_bytes },
            },
            2 => ControlRequest::CloseSession { session },
            3 => ControlRequest::Register { length: self.long, base: self.longer },
            4 => ControlRequest::Deregister { region },
            5 => ControlRequest::Export { region, access: depth, follow: self.bytes.clone() },
            6 => ControlRequest::Revoke { export: self.rkey().0, generation: self.rkey().1 },
            7 => ControlRequest::Serve { session, service: self.port },
            8 => ControlRequest::Connect { session, engine: self.address(), rkey: self.rkey() },
            9 => ControlRequest::Disconnect {
                session,
                remotes: self.bytes.iter().map(|byte| u16::from(*byte) << 4).collect(),
            },
            10 => ControlRequest::Ops { older_than_us: self.long },
            11 => ControlRequest::RegisterBacked { length: self.long, base: self.longer },
            12 => ControlRequest::Way { session, engine: self.address(), rkey: self.rkey() },
            _ => ControlRequest::Status,
        }
    }

    fn reply(&self) -> ControlReply {
        let [first, second, ..] = self.numbers;
        match self.kind % 8 {
            0 => ControlReply::Welcome {
                layout_version: first,
                pid: second,
                engine: self.address(),
                port: self.text.clone(),
            },
            1 => ControlReply::Session { session: first },
            2 => ControlReply::Region { region: first as u8 },
            3 => ControlReply::Exported { engine: self.address(), rkey: self.rkey() },
            4 => ControlReply::Connected { remote: self.port },
            5 => ControlReply::Status { bytes: self.long },
            6 => ControlReply::Done,
            _ => ControlReply::Refused { status: self.port, reason: self.text.clone() },
        }
    }
}

/// Encodes a message; none if it is longer than messages may be.
fn encoded<M: Serialize>(message: &M) -> Option<Vec<u8>> {
    let mut bytes = vec![0; MAX_CONTROL_BYTES];
    match encode(message, &mut bytes) {
        Ok(length) => bytes.truncate(length),
        Err(error) => {
            assert_eq!(error, BadControl::TooLong);
            return None;
        }
    }
    Some(bytes)
}

/// What is understood is understood again in the form in which this side writes it.
fn examine<M: Serialize + DeserializeOwned + PartialEq + core::fmt::Debug>(bytes: &[u8]) {
    let Ok(message) = decode::<M>(bytes) else { return };
    if let Some(again) = encoded(&message) {
        assert_eq!(decode::<M>(&again), Ok(message));
    }
}

#[test]
fn bytes_as_messages() {
    bolero::check!().with_iterations(ITERATIONS).for_each(|bytes: &[u8]| {
        examine::<ControlRequest>(bytes);
        examine::<ControlReply>(bytes);
        let mut message = encoded(&ControlRequest::Status).unwrap();
        message.truncate(8);
        message.extend_from_slice(bytes);
        examine::<ControlRequest>(&message);
        examine::<ControlReply>(&message);
    });
}

#[test]
fn messages_come_back() {
    bolero::check!().with_iterations(ITERATIONS).with_type::<Parts>().for_each(|parts| {
        if let Some(bytes) = encoded(&parts.request()) {
            assert_eq!(decode(&bytes), Ok(parts.request()));
        }
        if let Some(bytes) = encoded(&parts.reply()) {
            assert_eq!(decode(&bytes), Ok(parts.reply()));
        }
    });
}

#[test]
fn changed_messages() {
    let input = bolero::check!().with_iterations(ITERATIONS).with_type::<(Parts, Vec<Mutation>)>();
    input.for_each(|(parts, mutations)| {
        for message in [encoded(&parts.request()), encoded(&parts.reply())] {
            let Some(mut bytes) = message else { continue };
            mutate(&mut bytes, mutations);
            examine::<ControlRequest>(&bytes);
            examine::<ControlReply>(&bytes);
        }
    });
}
