//! What the control thread waits for.

use std::os::fd::{AsFd, BorrowedFd};

use nic_shm::ControlListener;
use rustix::event::{PollFd, PollFlags, poll};

use super::{Control, ControlError};

/// What there is to do.
#[derive(Debug)]
pub(super) struct Events {
    /// Connections with a message, or at their end.
    pub(super) messages: Vec<usize>,
    /// Connections whose application has died.
    pub(super) dead: Vec<usize>,
    pub(super) is_over: bool,
    pub(super) wants_accept: bool,
}

impl Control {
    /// Waits for anything to do: connections with something to say, the end, a new application.
    pub(super) fn wait(
        &self,
        listener: Option<&ControlListener>,
        shutdown: BorrowedFd<'_>,
    ) -> Result<Events, ControlError> {
        let mut descriptors = vec![
            PollFd::from_borrowed_fd(shutdown, PollFlags::IN),
            PollFd::from_borrowed_fd(self.bell.as_fd(), PollFlags::IN),
        ];
        let first_connection = 2 + usize::from(listener.is_some());
        if let Some(listener) = listener {
            descriptors.push(PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN));
        }
        let mut indices = Vec::new();
        let mut processes = Vec::new();
        for (index, connection) in self.connections.iter().enumerate() {
            let Some(connection) = connection else { continue };
            // One request at a time: what comes meanwhile waits in the socket.
            let flags = if connection.waiting.is_some() { PollFlags::HUP } else { PollFlags::IN };
            descriptors.push(PollFd::from_borrowed_fd(connection.socket.as_fd(), flags));
            indices.push(index);
            processes.extend(connection.process.as_ref().map(|process| (index, process)));
        }
        let first_process = first_connection + indices.len();
        for (_, process) in &processes {
            descriptors.push(PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN));
        }
        // A mailbox that was full is looked at again soon.
        let timeout = (!self.queued.is_empty())
            .then_some(rustix::time::Timespec { tv_sec: 0, tv_nsec: 200_000 });
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |place: usize| !descriptors[place].revents().is_empty();
        let ready = |first: usize, indices: Vec<usize>| {
            let of_index = |(place, index)| is_ready(first + place).then_some(index);
            indices.into_iter().enumerate().filter_map(of_index).collect()
        };
        Ok(Events {
            messages: ready(first_connection, indices),
            dead: ready(first_process, processes.iter().map(|(index, _)| *index).collect()),
            is_over: is_ready(0),
            wants_accept: listener.is_some() && is_ready(2),
        })
    }
}
