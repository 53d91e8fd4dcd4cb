//! Who may use an engine process: the peer's identity as the kernel tells it, never as the peer does.

use std::io;

use nic_shm::ControlSocket;
use nic_wire::Status;
use serde::{Deserialize, Serialize};

use super::config::{Config, ConfigFault};
use crate::engine::Refusal;

/// A user or a group, as a configuration names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a name or a number")]
pub enum Principal {
    /// By number.
    Id(u32),
    /// By name.
    Name(String),
}

impl Principal {
    fn resolve(
        &self,
        key: &'static str,
        id_of: impl Fn(&str) -> Option<u32>,
    ) -> Result<u32, ConfigFault> {
        match self {
            Principal::Id(id) => Ok(*id),
            Principal::Name(name) => {
                id_of(name).ok_or_else(|| ConfigFault::Stranger { key, name: name.clone() })
            }
        }
    }
}

/// Who is let in: the engine's own user, root, and whom the configuration allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    own: u32,
    users: Vec<u32>,
    groups: Vec<u32>,
}

impl Default for Admission {
    /// The own user and root.
    fn default() -> Self {
        let own = rustix::process::geteuid().as_raw();
        Admission { own, users: Vec::new(), groups: Vec::new() }
    }
}

impl Admission {
    /// What a configuration says, names made numbers once and for all.
    ///
    /// # Errors
    /// A name that the machine does not know.
    pub fn of(config: &Config) -> Result<Self, ConfigFault> {
        let user = |name: &str| Some(uzers::get_user_by_name(name)?.uid());
        let group = |name: &str| Some(uzers::get_group_by_name(name)?.gid());
        let users = config.allow_users.iter().map(|one| one.resolve("allow_users", user));
        let groups = config.allow_groups.iter().map(|one| one.resolve("allow_groups", group));
        Ok(Admission {
            users: users.collect::<Result<_, _>>()?,
            groups: groups.collect::<Result<_, _>>()?,
            ..Admission::default()
        })
    }

    /// Whether anybody is allowed whom the socket's mode has to let in.
    pub(super) fn names_others(&self) -> bool {
        !self.groups.is_empty() || self.users.iter().any(|user| ![0, self.own].contains(user))
    }

    /// The user at the other end of a socket, if he may come in.
    pub(super) fn admit(&self, socket: &ControlSocket) -> Result<u32, Refusal> {
        let unknown = |error: io::Error| {
            Refusal::new(Status::Denied, format!("the kernel does not say who connects: {error}"))
        };
        let peer = socket.peer_credentials().map_err(unknown)?;
        let mut groups = vec![peer.gid];
        if !self.groups.is_empty() {
            // A peer without supplementary groups has none that could help it.
            groups.extend(socket.peer_groups().unwrap_or_default());
        }
        if self.allows(peer.uid, &groups) {
            return Ok(peer.uid);
        }
        let reason = format!(
            "user {} may not use this engine, which serves user {} and root; add that user to \
             allow_users, or one of its groups {groups:?} to allow_groups, in the engine's \
             configuration",
            peer.uid, self.own
        );
        Err(Refusal::new(Status::Denied, reason))
    }

    fn allows(&self, user: u32, groups: &[u32]) -> bool {
        user == 0
            || user == self.own
            || self.users.contains(&user)
            || groups.iter().any(|group| self.groups.contains(group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(text: &str) -> Result<Admission, ConfigFault> {
        Admission::of(&Config::parse(text, "nic.toml")?)
    }

    #[test]
    fn own_user_and_root_are_always_let_in_and_others_when_named() {
        let nobody_else = admission("").unwrap();
        assert!(nobody_else.allows(0, &[]) && nobody_else.allows(nobody_else.own, &[]));
        assert!(!nobody_else.allows(4711, &[0, 4711]) && !nobody_else.names_others());
        let some =
            admission("allow_users = [\"root\", 4711]\nallow_groups = [815, \"root\"]").unwrap();
        assert!(some.allows(4711, &[]) && !some.allows(4712, &[4711]) && some.names_others());
        assert!(some.allows(4712, &[1, 815]) && some.allows(4712, &[0]));
        assert!(some.allows(some.own, &[]), "the own user needs not be named");
    }

    #[test]
    fn names_that_nobody_has_are_refused_with_their_key() {
        let said = admission("allow_groups = [\"no such group\"]").unwrap_err().to_string();
        assert!(said.contains("allow_groups") && said.contains("no such group"), "{said}");
        let said = admission("allow_users = [true]").unwrap_err().to_string();
        assert!(said.contains("a name or a number"), "{said}");
    }

    #[test]
    fn the_other_end_is_known_and_let_in() {
        let (one, _other) = ControlSocket::pair().unwrap();
        let admission = Admission::default();
        assert_eq!(admission.admit(&one).unwrap(), admission.own);
        let foreign = Admission { own: admission.own + 1, ..admission };
        if one.peer_credentials().unwrap().uid != 0 {
            let refusal = foreign.admit(&one).unwrap_err();
            assert!(refusal.reason.contains("allow_users"), "{}", refusal.reason);
        }
    }
}
