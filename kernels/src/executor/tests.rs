mod limits;
mod payload;
mod places;
mod plain;
mod shares;
mod slow_memory;
mod strands;
mod walks;
