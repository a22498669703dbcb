// Command pion serves TURN with pion/turn's public API, for comparison: one long-term user, and for
// each listening address as many sockets (SO_REUSEPORT), each with a read loop of its own, as the
// library's PacketConnConfigs offer. `build` beside it makes it from Debian's packages.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/pion/turn/v2"
)

// soReusePort is SO_REUSEPORT, which package syscall does not name on linux/amd64.
const soReusePort = 0xf

// pairs are LISTEN=RELAY flags: where to listen, and the address to relay from for those clients.
type pairs []string

func (p *pairs) String() string     { return strings.Join(*p, ",") }
func (p *pairs) Set(v string) error { *p = append(*p, v); return nil }

// relay gives relayed addresses of one local address, of either family (the library's own
// generators are for IPv4 only).
type relay struct{ address string }

func (r relay) Validate() error { return nil }

func (r relay) AllocatePacketConn(_ string, port int) (net.PacketConn, net.Addr, error) {
	conn, err := net.ListenPacket("udp", net.JoinHostPort(r.address, fmt.Sprint(port)))
	if err != nil {
		return nil, nil, err
	}
	return conn, conn.LocalAddr(), nil
}

func (r relay) AllocateConn(string, int) (net.Conn, net.Addr, error) {
	return nil, nil, fmt.Errorf("no TCP relaying here")
}

// listen opens one of several sockets on an address; the kernel gives each client one of them.
func listen(address string) (net.PacketConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		var failure error
		err := conn.Control(func(fd uintptr) {
			failure = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soReusePort, 1)
		})
		if err != nil {
			return err
		}
		return failure
	}}
	return config.ListenPacket(context.Background(), "udp", address)
}

func serve(listens pairs, sockets int, realm, user, password string) error {
	var configs []turn.PacketConnConfig
	for _, pair := range listens {
		address, from, found := strings.Cut(pair, "=")
		if !found {
			return fmt.Errorf("-listen wants ADDR:PORT=RELAYADDR, not %q", pair)
		}
		for n := 0; n < sockets; n++ {
			conn, err := listen(address)
			if err != nil {
				return err
			}
			configs = append(configs, turn.PacketConnConfig{
				PacketConn:            conn,
				RelayAddressGenerator: relay{address: from},
			})
		}
	}
	key := turn.GenerateAuthKey(user, realm, password)
	server, err := turn.NewServer(turn.ServerConfig{
		Realm: realm,
		AuthHandler: func(name, _ string, _ net.Addr) ([]byte, bool) {
			return key, name == user
		},
		PacketConnConfigs: configs,
	})
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
	return server.Close()
}

func main() {
	var listens pairs
	flag.Var(&listens, "listen", "`ADDR:PORT=RELAYADDR` to listen on; repeatable")
	sockets := flag.Int("sockets", 1, "sockets, each with a read loop, on each address")
	realm := flag.String("realm", "", "realm of the user")
	user := flag.String("user", "", "`NAME:PASSWORD`")
	flag.Parse()
	name, password, found := strings.Cut(*user, ":")
	if !found || len(listens) == 0 || *sockets < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := serve(listens, *sockets, *realm, name, password); err != nil {
		fmt.Fprintln(os.Stderr, "pion:", err)
		os.Exit(1)
	}
}
