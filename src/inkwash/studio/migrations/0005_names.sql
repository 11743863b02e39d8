alter table users add column key text not null default '';
update users set key = name_key(name);
update users set key = id where key in ('local', 'guest') and name <> key;
update users set key = id where exists (
  select 1 from users as older
  where older.key = users.key and (older.created, older.id) < (users.created, users.id)
);
create unique index users_by_key on users (key);
update users set password = null, admin = true, active = true where name = 'local';
