mod limits;
mod payload;
mod places;
mod plain;
mod slow_memory;
mod strands;
mod walks;
