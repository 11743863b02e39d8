-- additive
alter table jobs add column needs text;
create table workers (
  name text not null primary key,
  supervisor text not null,
  host text not null,
  device text not null,
  version text not null,
  models json not null,
  seen double precision not null
);
