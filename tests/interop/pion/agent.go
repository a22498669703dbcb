// The offering end of a WebRTC data channel, by pion.
//
//	agent offer TURN-URL USER PASSWORD COUNT    offers, by relayed candidates only; sends COUNT
//	                                            messages and wants each one back
//
// Descriptions go in and out as lines of JSON on standard input and output. {"echoed": COUNT} is
// printed at last. $SSL_CERT_FILE names the authorities for turns URLs.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/pion/webrtc"
)

const limit = 60 * time.Second

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func message(number int) []byte {
	bytes := make([]byte, 4+number%900)
	binary.BigEndian.PutUint32(bytes, uint32(number))
	return bytes
}

func printLine(value interface{}) {
	line, err := json.Marshal(value)
	must(err)
	fmt.Println(string(line))
}

func main() {
	time.AfterFunc(limit, func() { must(fmt.Errorf("not done within %v", limit)) })
	url, user, password := os.Args[2], os.Args[3], os.Args[4]
	count, err := strconv.Atoi(os.Args[5])
	must(err)
	connection, err := webrtc.NewPeerConnection(webrtc.Configuration{
		ICEServers: []webrtc.ICEServer{{
			URLs: []string{url}, Username: user, Credential: password,
		}},
		ICETransportPolicy: webrtc.ICETransportPolicyRelay,
	})
	must(err)
	channel, err := connection.CreateDataChannel("echo", nil)
	must(err)
	opened, came := make(chan struct{}), make(chan []byte, 1)
	channel.OnOpen(func() { close(opened) })
	channel.OnMessage(func(m webrtc.DataChannelMessage) { came <- m.Data })

	offer, err := connection.CreateOffer(nil)
	must(err)
	gathered := webrtc.GatheringCompletePromise(connection)
	must(connection.SetLocalDescription(offer))
	<-gathered
	printLine(connection.LocalDescription())
	line, err := bufio.NewReader(os.Stdin).ReadBytes('\n')
	must(err)
	var answer webrtc.SessionDescription
	must(json.Unmarshal(line, &answer))
	must(connection.SetRemoteDescription(answer))

	<-opened
	for number := 0; number < count; number++ {
		must(channel.Send(message(number)))
		if !bytes.Equal(<-came, message(number)) {
			must(fmt.Errorf("message %d was changed", number))
		}
	}
	printLine(map[string]int{"echoed": count})
	must(connection.Close())
}
