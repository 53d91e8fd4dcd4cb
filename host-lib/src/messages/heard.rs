//! What a sender hears of its calls.

use nic_wire::{Fate, Status};
use zerocopy::FromBytes;

use super::form::{Code, Verdict};
use crate::error::OpError;
use crate::ops::Call;
use crate::session::{Session, Token};

/// What a receiver said to a call, or how the call failed.
pub(super) type Heard = Result<(Code, Verdict), (Status, Fate)>;

/// What was heard of a call, if it is over.
pub(super) fn heard(session: &Session, call: Token) -> Option<Heard> {
    let no_answer = (Status::ServiceFailed, Fate::Executed);
    Some(match session.take_over::<Call<'static>>(call)? {
        Ok(bytes) => verdict_of(&bytes).ok_or(no_answer),
        Err(OpError::Failed { status, fate, .. }) => Err((status, fate)),
        Err(_) => Err((Status::BadCommand, Fate::NotExecuted)),
    })
}

fn verdict_of(bytes: &[u8]) -> Option<(Code, Verdict)> {
    let verdict = Verdict::read_from_bytes(bytes).ok()?;
    Some((verdict.code()?, verdict))
}
