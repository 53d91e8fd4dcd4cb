//! Tickets.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use nic_wire::Rkey;
use nic_wire::ticket::Ticket;

use crate::ITERATIONS;
use crate::mutation::{Mutation, mutate};

#[derive(Clone, Copy, Debug, bolero::TypeGenerator)]
struct Parts {
    address: [u8; 16],
    is_short: bool,
    port: u16,
    export: u16,
    generation: u16,
    secret: u64,
    base: u64,
    length: u64,
    access: u32,
}

impl Parts {
    fn ticket(&self) -> Ticket {
        let [a, b, c, d, ..] = self.address;
        let engine = if self.is_short {
            SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), self.port)
        } else {
            SocketAddr::new(Ipv6Addr::from(self.address).into(), self.port)
        };
        Ticket {
            engine,
            rkey: Rkey::new(self.export, self.generation, self.secret),
            base: self.base,
            length: self.length,
            access: self.access,
        }
    }
}

/// What is understood means the same when it is printed and read again.
fn examine(text: &str) {
    if let Ok(ticket) = text.parse::<Ticket>() {
        assert_eq!(ticket.to_string().parse(), Ok(ticket), "{text:?}");
    }
}

#[test]
fn bytes_as_tickets() {
    bolero::check!().with_iterations(ITERATIONS).for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        examine(&text);
        examine(&format!("nic1:{text}"));
    });
}

#[test]
fn tickets_come_back() {
    bolero::check!().with_iterations(ITERATIONS).with_type::<Parts>().for_each(|parts| {
        let ticket = parts.ticket();
        assert_eq!(ticket.to_string().parse(), Ok(ticket));
    });
}

#[test]
fn changed_tickets() {
    let input = bolero::check!().with_iterations(ITERATIONS).with_type::<(Parts, Vec<Mutation>)>();
    input.for_each(|(parts, mutations)| {
        let mut bytes = parts.ticket().to_string().into_bytes();
        mutate(&mut bytes, mutations);
        examine(&String::from_utf8_lossy(&bytes));
    });
}
