alter table users add column disk integer;
update users set served = 0;
alter table jobs rename column door to api;
alter table jobs rename column ask to request;
alter table jobs rename column n to parts;
alter table jobs rename column retry to idempotency_key;
alter table jobs add column system text not null default 'pictures';
alter table jobs add column verb text not null default 'generate';
alter table jobs add column model text;
alter table jobs add column part integer not null default 0;
alter table jobs add column lasting boolean not null default false;
alter table jobs add column wanted text;
alter table jobs add column plan json;
alter table jobs add column cost double precision not null default 10;
alter table jobs add column previews integer not null default 0;
alter table jobs add column notes json not null default '[]';
update jobs set
  model = json_extract(request, '$.model'),
  previews = coalesce(json_extract(request, '$.previews'), 0),
  part = (select count(*) from pictures where job_id = jobs.id),
  request = json_remove(json_set(
    request,
    '$.image', json((select json_object('sha256', sha256, 'name', 'image.png') from uploads
                     where id = json_extract(request, '$.image'))),
    '$.mask', json((select json_object('sha256', sha256, 'name', 'mask.png') from uploads
                    where id = json_extract(request, '$.mask'))),
    '$.outpaint', json_extract(request, '$.border')
  ), '$.previews', '$.border');
create index jobs_by_kind on jobs (user_id, system, verb, created, id);
create table results (
  id text not null primary key,
  job_id text not null references jobs (id),
  part integer not null,
  number integer not null,
  place integer,
  user_id text not null references users (id),
  system text not null,
  verb text not null,
  title text not null,
  data json not null,
  recipe json not null,
  model text,
  bytes integer not null,
  created double precision not null,
  deleted double precision,
  unique (job_id, part, number)
);
create index results_by_time on results (user_id, created, id);
create table files (
  result_id text not null references results (id),
  number integer not null,
  sha256 text not null,
  suffix text not null,
  name text not null,
  media text not null,
  bytes integer not null,
  primary key (result_id, number)
);
create index files_by_content on files (sha256);
insert into results select
  id, job_id, place, 0, place, user_id, 'pictures', 'generate', prompt, '{}',
  case when json_type(recipe, '$.border') is null then recipe else
    json_remove(json_set(recipe, '$.outpaint', json_extract(recipe, '$.border')), '$.border') end, null,
  case when deleted is null then file_size(sha256, '.png') else 0 end, created, deleted from pictures;
insert into files select
  id, 0, sha256, '.png', 'inkwash-' || substr(sha256, 1, 8) || '.png', 'image/png',
  file_size(sha256, '.png') from pictures;
create table result_shares (
  token text not null primary key,
  result_id text not null references results (id),
  recipe boolean not null,
  expires double precision
);
insert into result_shares select token, picture_id, recipe, expires from shares;
drop table shares;
alter table result_shares rename to shares;
create index shares_of_result on shares (result_id);
drop table pictures;
create table contents (
  user_id text not null references users (id),
  sha256 text not null,
  suffix text not null,
  name text not null,
  media text not null,
  bytes integer not null,
  cleaned boolean not null,
  created double precision not null,
  primary key (user_id, sha256)
);
insert or ignore into contents select
  user_id, sha256, '.png', 'image.png', 'image/png', file_size(sha256, '.png'), true, created from uploads;
drop table uploads;
alter table contents rename to uploads;
create index uploads_by_content on uploads (sha256);
create table models (
  id text not null primary key,
  user_id text not null references users (id),
  name text not null,
  system text not null,
  bytes integer not null,
  job_id text not null references jobs (id),
  created double precision not null,
  deleted double precision
);
create index models_of_user on models (user_id, name);
