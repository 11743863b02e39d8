create table counter (value integer not null);
alter table users add column turn integer not null default 0;
alter table jobs add column serial integer not null default 0;
alter table jobs add column version integer not null default 0;
alter table jobs add column served double precision not null default 0;
alter table jobs add column deleted double precision;
alter table jobs rename column lease to heartbeat;
alter table results add column serial integer not null default 0;
alter table shares add column created double precision not null default 0;
update jobs set serial = numbered.n from
  (select id, row_number() over (order by created, id) as n from jobs) as numbered where jobs.id = numbered.id;
update jobs set version = numbered.n from
  (select id, row_number() over (order by changed, id) as n from jobs) as numbered where jobs.id = numbered.id;
update results set serial = numbered.n from
  (select id, row_number() over (order by created, id) as n from results) as numbered where results.id = numbered.id;
update users set turn = begun.n from
  (select user_id, row_number() over (order by max(started)) as n from jobs where started is not null group by user_id)
  as begun where users.id = begun.user_id;
update jobs set idempotency_key = substr(idempotency_key, 1, instr(substr(idempotency_key, 5), ':') + 4)
  || sha256(substr(idempotency_key, instr(substr(idempotency_key, 5), ':') + 5)) where idempotency_key like 'key:%:%';
insert into counter select (select count(*) from jobs) + (select count(*) from results);
drop index jobs_of_user;
drop index jobs_by_status;
drop index jobs_by_kind;
drop index results_by_time;
create index jobs_by_status on jobs (status, user_id);
create index jobs_by_serial on jobs (user_id, serial);
create index jobs_by_kind on jobs (user_id, system, verb, serial);
create index jobs_by_version on jobs (user_id, version);
create index results_by_serial on results (user_id, serial);
